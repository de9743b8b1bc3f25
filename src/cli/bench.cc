// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "cli/bench_files.h"
#include "cli/bench_generation.h"
#include "cli/bench_load.h"
#include "cli/bench_mixed.h"
#include "cli/bench_perplexity.h"
#include "cli/bench_report.h"
#include "cli/bench_roofline.h"
#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/processors.h"
#include "ops/cpu/limits.h"

namespace peregrine::cli {
namespace {

struct BenchFlags {
  ModelFlags model;
  std::string dtype;
  std::string quantize;
  GenerationPlan plan;
  std::int32_t mixed = 0;
  PerplexityPlan perplexity;
  LoadPlan load;
  std::string write;  ///< Directory to write the random model to.
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
  report.member(
      "limits",
      fmt::format(
          "{{\"read_gb_s\":{:.2f},\"bf16_gflop_s\":{:.1f},\"f32_gflop_s\":{:.1f},\"int8_gop_s\":{:.1f}}}",
          limits.read_bandwidth / 1e9, limits.bf16_rate / 1e9, limits.f32_rate / 1e9,
          limits.int8_rate / 1e9));
  report.line(fmt::format(
      "machine: reads {:.1f} GB/s, bf16 {:.0f} Gflop/s, float32 {:.0f} Gflop/s, int8 {:.0f} Gop/s",
      limits.read_bandwidth / 1e9, limits.bf16_rate / 1e9, limits.f32_rate / 1e9, limits.int8_rate / 1e9));
}

void report_prefill(const Session& session, const GenerationPlan& plan, const Roofline& roofline,
                    Report& report) {
  const Work work(session.model);
  std::string rows;
  for (const std::int32_t tokens : plan.prompt_tokens) {
    const double rate = prefill_rate(session, plan, tokens);
    const double operations = work.prefill_operations(tokens) * rate / tokens;
    const double fraction = operations / roofline.operations_per_second;
    rows += fmt::format("{}{{\"tokens\":{},\"tok_s\":{:.3f},\"gop_s\":{:.1f},\"peak_fraction\":{:.3f}}}",
                        rows.empty() ? "" : ",", tokens, rate, operations / 1e9, fraction);
    report.line(fmt::format("prefill, {} tokens: {:.1f} tokens/s, {:.0f} Gop/s, {:.0f} % of the peak", tokens,
                            rate, operations / 1e9, 100 * fraction));
    if (tokens == plan.prompt_tokens.front()) {
      report.number("prompt_tokens", tokens);
      report.number("prefill_tok_s", rate);
    }
  }
  report.member("prefill", "[" + rows + "]");
}

void report_decode(const Session& session, const GenerationPlan& plan, const Roofline& roofline,
                   Report& report) {
  const Work work(session.model);
  const core::DType dtype = session.model.decoder->types().stored().most();
  std::string rows;
  for (const std::int32_t batch : plan.batches) {
    const double rate = decode_rate(session, plan, batch);
    const double bytes = rate / batch * work.decode_bytes(dtype);
    const double limit = roofline.decode_rate(work, dtype, batch);
    rows += fmt::format(
        "{}{{\"batch\":{},\"tok_s\":{:.3f},\"weight_gb_s\":{:.2f},\"bandwidth_fraction\":{:.3f},"
        "\"roofline_tok_s\":{:.3f},\"roofline_fraction\":{:.3f}}}",
        rows.empty() ? "" : ",", batch, rate, bytes / 1e9, bytes / roofline.bytes_per_second, limit,
        rate / limit);
    report.line(fmt::format(
        "decode, batch {}: {:.2f} tokens/s, {:.1f} GB/s of weights, {:.0f} % of what the machine allows",
        batch, rate, bytes / 1e9, 100 * rate / limit));
  }
  report.number("decode_prompt_tokens", plan.decode_prompt_tokens);
  report.number("new_tokens", plan.new_tokens);
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

void report_perplexity(const Session& session, const BenchFlags& flags, Report& report) {
  const Perplexity result = measure_perplexity(session, flags.perplexity);
  report.member("tokens", fmt::format("{}", result.tokens));
  report.member("scored_tokens", fmt::format("{}", result.scored));
  report.member("windows", fmt::format("{}", result.windows));
  report.number("context", result.context);
  report.number("stride", result.stride);
  report.number("seconds", result.seconds);
  report.member("mean_nll", fmt::format("{:.9g}", result.mean_negative_log_likelihood));
  report.member("perplexity", fmt::format("{:.9g}", result.perplexity));
  report.line(fmt::format("perplexity {:.4f} over {} tokens, in {} windows of {} with stride {}, {:.1f} s",
                          result.perplexity, result.scored, result.windows, result.context, result.stride,
                          result.seconds));
}

void report_generation(const Session& session, const BenchFlags& flags, int threads, Report& report) {
  const ops::cpu::Limits limits = ops::cpu::measure_limits(threads, session.options.isa);
  const model::DecoderTypes& types = session.model.decoder->types();
  const Roofline roofline{limits.read_bandwidth, types.stored().most() == core::DType::kI8 ? limits.int8_rate
                                                 : types.compute == core::DType::kBF16     ? limits.bf16_rate
                                                                                           : limits.f32_rate};
  report_limits(limits, report);
  report_prefill(session, flags.plan, roofline, report);
  report_decode(session, flags.plan, roofline, report);
  report_mixed(session, flags, report);
}

void bench_model(const BenchFlags& flags) {
  flags.plan.check();
  const Session session = open_session(flags.model, read_options(flags.model));
  if (!session.model.decoder) {
    core::fail(core::ErrorKind::kUnsupported, "bench measures generation, and the model is an encoder");
  }
  const int threads = session.options.cpu_threads > 0 ? session.options.cpu_threads : core::default_threads();
  Report report(flags.model.json);
  report_model(session, flags, threads, report);
  if (flags.perplexity.text.empty()) {
    report_generation(session, flags, threads, report);
  } else {
    report_perplexity(session, flags, report);
  }
  report.finish();
}

void bench(BenchFlags& flags) {
  if (!flags.load.url.empty()) return bench_load(flags.load, flags.model.json);
  if (!flags.write.empty())
    return write_random_model(flags.model.random, flags.model.random_seed, flags.write);
  if (!flags.dtype.empty()) flags.model.options.push_back("dtype=" + flags.dtype);
  if (!flags.quantize.empty()) flags.model.options.push_back("quantize=" + flags.quantize);
  bench_model(flags);
}

void add_generation_options(CLI::App& command, GenerationPlan& plan) {
  command.add_option("--batch", plan.batches, "Numbers of sequences to decode at once")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--prompt-tokens", plan.prompt_tokens, "Prompt lengths of the prefill measurement")
      ->delimiter(',')
      ->capture_default_str();
  command
      .add_option("--decode-prompt-tokens", plan.decode_prompt_tokens,
                  "Prompt length before the decode measurement")
      ->capture_default_str();
  command.add_option("--new-tokens", plan.new_tokens, "Tokens decoded by each sequence")
      ->capture_default_str();
  command.add_option("--repeat", plan.repeat, "Runs of each measurement; the median counts")
      ->capture_default_str();
}

void add_perplexity_options(CLI::App& command, PerplexityPlan& plan) {
  auto* text = command.add_option("--perplexity", plan.text,
                                  "Measure instead the model's perplexity over a text: a file, or the text");
  command.add_option("--context", plan.context, "Tokens of a window (default: the model's, at most 1024)")
      ->check(CLI::Range(2, 1 << 24))
      ->needs(text);
  command.add_option("--stride", plan.stride, "Tokens from window to window (default: half of the context)")
      ->check(CLI::Range(1, 1 << 24))
      ->needs(text);
}

void add_load_options(CLI::App& command, LoadPlan& plan) {
  auto* url = command.add_option(
      "--url", plan.url,
      "Measure instead a running server with the OpenAI interface, http://HOST[:PORT][/PATH]");
  const auto number = [&](const char* name, std::int32_t& value, const char* help, CLI::Range range) {
    command.add_option(name, value, help)->check(range)->capture_default_str()->needs(url);
  };
  number("--clients", plan.clients, "Requests under way at a time", CLI::Range(1, 4096));
  number("--requests", plan.requests, "Requests in all", CLI::Range(1, 1'000'000));
  number("--warmup", plan.warmup, "Requests before, which do not count", CLI::Range(0, 1000));
  command.add_option("--seed", plan.seed, "What prompts and lengths follow from")
      ->check(CLI::Range(0u, 1u << 31))
      ->capture_default_str()
      ->needs(url);
  command.add_option("--model-name", plan.model, "Name in the requests (default: the first that is served)")
      ->needs(url);
  const auto range = [&](const char* name, std::array<std::int32_t, 2>& value, const char* help) {
    command
        .add_option_function<std::string>(
            name, [name, &value](const std::string& text) { value = parse_range(text, name); }, help)
        ->default_str(fmt::format("{}:{}", value[0], value[1]))
        ->needs(url);
  };
  range("--prompt-range", plan.prompt_tokens, "Lengths of prompts, LOW:HIGH");
  range("--output-range", plan.output_tokens, "Lengths of answers, LOW:HIGH");
  range("--token-ids", plan.token_ids, "Ids that prompts are made of, LOW:HIGH");
}

/// What one kind of measurement does not look at is refused beside it.
void exclude_what_has_no_effect(CLI::App& command) {
  const auto exclude = [&](const char* option, std::initializer_list<const char*> others) {
    for (const char* other : others) command.get_option(option)->excludes(command.get_option(other));
  };
  const auto timing = {"--batch",      "--prompt-tokens", "--decode-prompt-tokens",
                       "--new-tokens", "--repeat",        "--mixed"};
  const auto loading = {"--dtype", "--quantize", "--option", "--device", "--isa", "--threads"};
  exclude("--perplexity", timing);
  exclude("--url", timing);
  exclude("--url", loading);
  exclude("--url", {"--perplexity", "--write", "--random", "--random-seed", "model_dir"});
  exclude("--write", timing);
  exclude("--write", loading);
  exclude("--write", {"--perplexity", "--json"});
}

}  // namespace

void add_bench(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand(
      "bench",
      "Speed beside what this machine allows: prefill and decode, or a server under load; perplexity");
  flags->model.add_to(*command, true);
  command->add_option("--dtype", flags->dtype, "Type of the stored weights: auto, fp32, fp16 or bf16");
  command->add_option("--quantize", flags->quantize, "Of the stored weights: none or int8");
  add_generation_options(*command, flags->plan);
  command
      ->add_option("--mixed", flags->mixed,
                   "Also run so many requests of different kinds and lengths, one to all at a time")
      ->check(CLI::Range(0, 4096));
  add_perplexity_options(*command, flags->perplexity);
  add_load_options(*command, flags->load);
  auto* write = command->add_option(
      "--write", flags->write, "Instead write the model of --random to this directory, with a tokenizer");
  write->needs(command->get_option("--random"));
  exclude_what_has_no_effect(*command);
  command->callback([flags] { bench(*flags); });
}

}  // namespace peregrine::cli
