// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/bench_mixed.h"
#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/log.h"
#include "core/processors.h"
#include "engine/engine.h"
#include "ops/cpu/limits.h"

namespace peregrine::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchFlags {
  ModelFlags model;
  std::string dtype;
  std::string quantize;
  std::vector<std::int32_t> batches = {1, 8, 32};
  std::int32_t prompt_tokens = 512;
  std::int32_t decode_prompt_tokens = 32;
  std::int32_t new_tokens = 32;
  std::int32_t repeat = 3;
  std::int32_t mixed = 0;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What a token costs, from the model's shape: the matrices a decode step must read, and the layers'
/// multiplications.
struct Work {
  double layer_weights = 0;  ///< Elements of the matrices of all layers that a token goes through.
  double head_weights = 0;
  double text_weights = 0;  ///< The same for a token of an encoder-decoder's text.

  explicit Work(const model::LoadedModel& model) {
    const model::DecoderConfig& config = model.decoder->config();
    const double hidden = static_cast<double>(config.hidden_size);
    const double queries = static_cast<double>(config.heads) * config.head_dim;
    const double keys = static_cast<double>(config.kv_heads) * config.head_dim;
    double mlp = static_cast<double>(config.intermediate_size) * (config.gated_mlp ? 3 : 2);
    if (config.experts.count > 0) {
      mlp = 3 * (config.experts.per_token * static_cast<double>(config.experts.intermediate_size) +
                 static_cast<double>(config.experts.shared_intermediate_size));
    }
    layer_weights = config.layers * hidden * (2 * queries + 2 * keys + mlp);
    head_weights = hidden * static_cast<double>(config.vocab_size);
    if (!model.encoder) return;
    layer_weights += config.layers * hidden * 2 * queries;  // cross-attention's queries and output
    const model::EncoderConfig& encoder = model.encoder->config();
    const double width = static_cast<double>(encoder.heads) * encoder.head_dim;
    text_weights =
        encoder.layers * static_cast<double>(encoder.hidden_size) *
            (4 * width + static_cast<double>(encoder.intermediate_size) * (encoder.gated_mlp ? 3 : 2)) +
        config.layers * hidden * 2 * keys;
  }
  /// Floating-point operations of a prompt (or text) whose last position alone needs logits; attention left
  /// out.
  double prefill_flops(std::int32_t tokens) const {
    if (text_weights > 0) return 2 * (text_weights * tokens + layer_weights + head_weights);
    return 2 * (layer_weights * tokens + head_weights);
  }
  double decode_bytes(core::DType dtype) const {
    return (layer_weights + head_weights) * static_cast<double>(core::size_of(dtype));
  }
};

/// Counts tokens, and notes when every sequence has had its first and when the first sequence has ended.
class DecodeMeter : public engine::EventSink {
 public:
  explicit DecodeMeter(std::size_t sequences) : started_(sequences, false) {}

  void on_step(std::span<const engine::SequenceEvent> events) override {
    const bool counting = waiting() == 0;
    for (const engine::SequenceEvent& event : events) {
      if (!event.tokens.empty()) started_.at(static_cast<std::size_t>(event.request)) = true;
      if (counting) tokens_ += event.tokens.size();
      if (event.finish) finished_ = true;
    }
    if (counting) {
      seconds_ = seconds_since(start_);
    } else if (waiting() == 0) {
      start_ = Clock::now();
    }
  }

  bool finished() const { return finished_; }
  double tokens_per_second() const { return seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0; }

 private:
  std::size_t waiting() const {
    return static_cast<std::size_t>(std::count(started_.begin(), started_.end(), false));
  }

  std::vector<bool> started_;
  Clock::time_point start_;
  double seconds_ = 0;
  std::size_t tokens_ = 0;
  bool finished_ = false;
};

/// Runs `count` greedy requests that never end early; the time until the sink says that it has seen enough is
/// the sink's.
void run_requests(const Session& session, const BenchFlags& flags, std::int32_t count,
                  std::int32_t prompt_tokens, std::int32_t new_tokens, DecodeMeter& meter) {
  engine::EngineOptions options = host::engine_options(session.options);
  options.max_rolling_batch_size = count;
  options.max_rolling_batch_prefill_tokens =
      std::max(options.max_rolling_batch_prefill_tokens, flags.prompt_tokens);
  options.max_model_length = prompt_tokens + new_tokens;
  engine::Engine engine(*session.device, *session.model.decoder, options, session.model.encoder.get());
  for (std::int32_t i = 0; i < count; ++i) {
    engine::Request request;
    request.id = static_cast<engine::RequestId>(i);
    set_prompt(session, bench_prompt(prompt_tokens, session.model.decoder->config().vocab_size, request.id),
               request);
    request.parameters.max_new_tokens = new_tokens;
    engine.submit(std::move(request));
  }
  while (!meter.finished() && engine.step(meter)) {
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double prefill_rate(const Session& session, const BenchFlags& flags) {
  std::vector<double> rates;
  for (std::int32_t i = 0; i <= flags.repeat; ++i) {
    DecodeMeter meter(1);
    const auto start = Clock::now();
    run_requests(session, flags, 1, flags.prompt_tokens, 1, meter);
    if (i > 0) rates.push_back(flags.prompt_tokens / seconds_since(start));  // the first run warms up
  }
  return median(rates);
}

double decode_rate(const Session& session, const BenchFlags& flags, std::int32_t batch) {
  // Prompts of a large batch take several steps; sequences that started early must not end while others
  // prefill.
  const std::int32_t prefill_steps =
      batch * flags.decode_prompt_tokens / session.options.max_rolling_batch_prefill_tokens + 2;
  std::vector<double> rates;
  for (std::int32_t i = 0; i < flags.repeat; ++i) {
    DecodeMeter meter(static_cast<std::size_t>(batch));
    run_requests(session, flags, batch, flags.decode_prompt_tokens, flags.new_tokens + prefill_steps, meter);
    rates.push_back(meter.tokens_per_second());
  }
  return median(rates);
}

void check(const BenchFlags& flags) {
  if (flags.prompt_tokens < 1 || flags.decode_prompt_tokens < 1 || flags.new_tokens < 2 || flags.repeat < 1) {
    core::fail(
        core::ErrorKind::kInvalidArgument,
        "--prompt-tokens, --decode-prompt-tokens and --repeat must be at least 1, --new-tokens at least 2");
  }
  for (const std::int32_t batch : flags.batches) {
    if (batch < 1 || batch > 4096)
      core::fail(core::ErrorKind::kInvalidArgument, "--batch {} is not from 1 to 4096", batch);
  }
}

/// Measured limits of the machine, for arithmetic in the model's type.
struct Roofline {
  double bytes_per_second = 0;
  double flops = 0;

  /// The most sequences' tokens a second that decoding `batch` sequences allows: whichever of reading every
  /// matrix once a step and the arithmetic takes longer.
  double decode_rate(const Work& work, core::DType dtype, std::int32_t batch) const {
    const double reading = work.decode_bytes(dtype) / bytes_per_second;
    const double computing = 2 * (work.layer_weights + work.head_weights) * batch / flops;
    return batch / std::max(reading, computing);
  }
};

/// Results as text for people or as members of a JSON object.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  /// Text appears as it comes: on standard output, or as progress beside JSON.
  void line(const std::string& text) const {
    if (json_) {
      spdlog::info("{}", text);
    } else {
      std::printf("%s\n", text.c_str());
      std::fflush(stdout);
    }
  }
  void member(std::string_view name, const std::string& value) {
    members_ += fmt::format("{}\"{}\":{}", members_.empty() ? "" : ",", name, value);
  }
  void number(std::string_view name, double value) { member(name, fmt::format("{:.6g}", value)); }

  void finish() const {
    if (json_) std::printf("{%s}\n", members_.c_str());
  }

 private:
  bool json_;
  std::string members_;
};

void report_model(const Session& session, const BenchFlags& flags, int threads, Report& report) {
  const model::Decoder& decoder = *session.model.decoder;
  report.member("model",
                json_string(flags.model.random.empty() ? flags.model.model_dir : flags.model.random));
  report.member("device", json_string(session.device->description()));
  report.number("threads", threads);
  report.member("dtype", json_string(core::to_string(decoder.types().weights)));
  report.member("quantize", json_string(core::to_string(decoder.types().quantization)));
  report.member("compute_dtype", json_string(core::to_string(decoder.types().compute)));
  report.member("kv_cache_dtype", json_string(core::to_string(decoder.types().cache)));
  const std::size_t weight_bytes =
      decoder.weight_bytes() + (session.model.encoder ? session.model.encoder->weight_bytes() : 0);
  report.member("weight_bytes", fmt::format("{}", weight_bytes));
  report.number("load_seconds", session.load_seconds);
  report.line(fmt::format("{}: weights {}, arithmetic {}, cache {}, {:.2f} GB, loaded in {:.1f} s",
                          session.device->description(), core::to_string(decoder.types().stored().most()),
                          core::to_string(decoder.types().compute), core::to_string(decoder.types().cache),
                          static_cast<double>(weight_bytes) / 1e9, session.load_seconds));
}

void report_limits(const ops::cpu::Limits& limits, Report& report) {
  report.member("limits",
                fmt::format("{{\"read_gb_s\":{:.2f},\"bf16_gflop_s\":{:.1f},\"f32_gflop_s\":{:.1f}}}",
                            limits.read_bandwidth / 1e9, limits.bf16_rate / 1e9, limits.f32_rate / 1e9));
  report.line(fmt::format("machine: reads {:.1f} GB/s, bf16 {:.0f} Gflop/s, float32 {:.0f} Gflop/s",
                          limits.read_bandwidth / 1e9, limits.bf16_rate / 1e9, limits.f32_rate / 1e9));
}

void report_prefill(const Session& session, const BenchFlags& flags, const Work& work,
                    const Roofline& roofline, Report& report) {
  const double rate = prefill_rate(session, flags);
  const double flops = work.prefill_flops(flags.prompt_tokens) * rate / flags.prompt_tokens;
  report.number("prompt_tokens", flags.prompt_tokens);
  report.number("prefill_tok_s", rate);
  report.number("prefill_gflop_s", flops / 1e9);
  report.number("prefill_peak_fraction", flops / roofline.flops);
  report.line(fmt::format("prefill, {} tokens: {:.1f} tokens/s, {:.0f} Gflop/s, {:.0f} % of the peak",
                          flags.prompt_tokens, rate, flops / 1e9, 100 * flops / roofline.flops));
}

void report_decode(const Session& session, const BenchFlags& flags, const Work& work,
                   const Roofline& roofline, Report& report) {
  const core::DType dtype = session.model.decoder->types().stored().most();
  std::string rows;
  for (const std::int32_t batch : flags.batches) {
    const double rate = decode_rate(session, flags, batch);
    const double bytes = rate / batch * work.decode_bytes(dtype);
    const double fraction = rate / roofline.decode_rate(work, dtype, batch);
    rows += fmt::format(
        "{}{{\"batch\":{},\"tok_s\":{:.3f},\"weight_gb_s\":{:.2f},\"bandwidth_fraction\":{:.3f},\"roofline_"
        "fraction\":{:.3f}}}",
        rows.empty() ? "" : ",", batch, rate, bytes / 1e9, bytes / roofline.bytes_per_second, fraction);
    report.line(fmt::format(
        "decode, batch {}: {:.2f} tokens/s, {:.1f} GB/s of weights, {:.0f} % of what the machine allows",
        batch, rate, bytes / 1e9, 100 * fraction));
  }
  report.number("new_tokens", flags.new_tokens);
  report.member("decode", "[" + rows + "]");
}

void report_mixed(const Session& session, const BenchFlags& flags, Report& report) {
  if (flags.mixed == 0) return;
  const MixedResult result = run_mixed(session, flags.mixed);
  const double tokens = static_cast<double>(result.new_tokens);
  report.line(fmt::format("{} mixed requests (greedy, 4 beams, sampling), {} tokens:", result.requests,
                          result.new_tokens));
  std::string rows;
  for (const MixedResult::Level& level : result.levels) {
    rows += fmt::format("{}{{\"at_once\":{},\"tok_s\":{:.2f},\"differing\":{}}}", rows.empty() ? "" : ",",
                        level.at_once, tokens / level.seconds, level.differing);
    report.line(fmt::format(
        "  {:>3} at a time: {:.1f} tokens/s, {:.2f} times one at a time; {} answers differ", level.at_once,
        tokens / level.seconds, result.levels.front().seconds / level.seconds, level.differing));
  }
  report.member("mixed", fmt::format("{{\"requests\":{},\"new_tokens\":{},\"levels\":[{}]}}", result.requests,
                                     result.new_tokens, rows));
}

void bench(BenchFlags& flags) {
  check(flags);
  if (!flags.dtype.empty()) flags.model.options.push_back("dtype=" + flags.dtype);
  if (!flags.quantize.empty()) flags.model.options.push_back("quantize=" + flags.quantize);
  const Session session = open_session(flags.model, read_options(flags.model));
  if (!session.model.decoder) {
    core::fail(core::ErrorKind::kUnsupported, "bench measures generation, and the model is an encoder");
  }
  const int threads = session.options.cpu_threads > 0 ? session.options.cpu_threads : core::default_threads();
  const ops::cpu::Limits limits = ops::cpu::measure_limits(threads, session.options.isa);
  const bool bf16 = session.model.decoder->types().compute == core::DType::kBF16;
  const Roofline roofline{limits.read_bandwidth, bf16 ? limits.bf16_rate : limits.f32_rate};
  const Work work(session.model);

  Report report(flags.model.json);
  report_model(session, flags, threads, report);
  report_limits(limits, report);
  report_prefill(session, flags, work, roofline, report);
  report_decode(session, flags, work, roofline, report);
  report_mixed(session, flags, report);
  report.finish();
}

}  // namespace

void add_bench(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command =
      app.add_subcommand("bench", "Prefill and decode speed, beside what this machine allows");
  flags->model.add_to(*command, true);
  command->add_option("--dtype", flags->dtype, "Type of the stored weights: auto, fp32, fp16 or bf16");
  command->add_option("--quantize", flags->quantize, "Of the stored weights: none or int8");
  command->add_option("--batch", flags->batches, "Numbers of sequences to decode at once")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--prompt-tokens", flags->prompt_tokens, "Prompt length of the prefill measurement")
      ->capture_default_str();
  command
      ->add_option("--decode-prompt-tokens", flags->decode_prompt_tokens,
                   "Prompt length before the decode measurement")
      ->capture_default_str();
  command->add_option("--new-tokens", flags->new_tokens, "Tokens decoded by each sequence")
      ->capture_default_str();
  command->add_option("--repeat", flags->repeat, "Runs of each measurement; the median counts")
      ->capture_default_str();
  command
      ->add_option("--mixed", flags->mixed,
                   "Also run so many requests of different kinds and lengths, one to all at a time")
      ->check(CLI::Range(0, 4096));
  command->callback([flags] { bench(*flags); });
}

}  // namespace peregrine::cli
