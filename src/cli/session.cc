// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <charconv>
#include <chrono>

#include "core/error.h"
#include "core/log.h"

namespace peregrine::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Logs how far a load is, with rate and time left, at most once a second, and not at all for loads below a
/// second.
class ProgressLog {
 public:
  void operator()(std::uint64_t done, std::uint64_t total) {
    const double elapsed = seconds_since(start_);
    if (elapsed < next_report_ || done >= total) return;
    next_report_ = elapsed + 1.0;
    const double rate = static_cast<double>(done) / elapsed;
    spdlog::info("loading: {:.0f} % of {:.2f} GB, {:.2f} GB/s, {:.0f} s left",
                 100.0 * static_cast<double>(done) / static_cast<double>(total),
                 static_cast<double>(total) / 1e9, rate / 1e9,
                 rate > 0 ? static_cast<double>(total - done) / rate : 0.0);
  }

 private:
  Clock::time_point start_ = Clock::now();
  double next_report_ = 1.0;
};

}  // namespace

void ModelFlags::add_to(CLI::App& command, bool allow_random) {
  auto* directory = command.add_option("model_dir", model_dir, "Hugging Face model directory");
  if (allow_random) {
    auto* shape =
        command.add_option("--random", random, "Random weights of a named shape, such as falcon-7b:layers=4");
    directory->excludes(shape);
    command.add_option("--random-seed", random_seed, "Seed of the random weights")->capture_default_str();
  } else {
    directory->required();
  }
  command
      .add_option("--option", options, "KEY=VALUE: an option as in serving.properties, which it overrides")
      ->allow_extra_args(false);
  command.add_option("--device", device, "cpu (default) or reference");
  command.add_option(
      "--isa", isa,
      "Forces an instruction set: plain, avx2, avx512, avx512_vnni or avx512_bf16 (also PEREGRINE_ISA)");
  command.add_option("--threads", threads, "Compute threads (default: all available processors)")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--json", json, "Print one JSON document");
}

std::vector<std::string> ModelFlags::all_options() const {
  std::vector<std::string> out = options;
  if (!device.empty()) out.push_back("device=" + device);
  if (!isa.empty()) out.push_back("isa=" + isa);
  if (threads > 0) out.push_back(fmt::format("cpu_threads={}", threads));
  return out;
}

configuration::ModelOptions read_options(const ModelFlags& flags) {
  if (flags.model_dir.empty() && flags.random.empty()) {
    core::fail(core::ErrorKind::kInvalidArgument, "a model directory or --random is needed");
  }
  return configuration::read_model_options(flags.model_dir, flags.all_options());
}

Session open_session(const ModelFlags& flags, configuration::ModelOptions options) {
  auto session =
      flags.random.empty()
          ? host::load_session(configuration::model_files(flags.model_dir, options), options, ProgressLog())
          : host::load_random_session(flags.random, flags.random_seed, options, ProgressLog());
  spdlog::debug("loaded {} in {:.2f} s on {}", flags.random.empty() ? flags.model_dir : flags.random,
                session.load_seconds, session.device->description());
  return {std::move(session), std::move(options)};
}

const model::Decoder& decoder_of(const Session& session) {
  if (session.model.decoder) return *session.model.decoder;
  core::fail(core::ErrorKind::kUnsupported,
             "{} is an encoder, which does not generate; `peregrine embed` embeds texts with it",
             session.model.directory.info().architecture);
}

const model::Encoder& encoder_of(const Session& session) {
  if (session.model.encoder && !session.model.decoder) return *session.model.encoder;
  core::fail(core::ErrorKind::kUnsupported,
             "{} generates, and does not embed; `peregrine generate` continues texts with it",
             session.model.directory.info().architecture);
}

std::vector<std::int32_t> parse_ids(const std::string& text, const std::string& flag) {
  std::vector<std::int32_t> ids;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::int32_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end || id < 0) {
      core::fail(core::ErrorKind::kInvalidArgument,
                 "{} must be token ids separated by commas, such as 1,2,3; found {}", flag,
                 core::quoted(std::string_view(text).substr(begin, end - begin)));
    }
    ids.push_back(id);
    begin = end + 1;
  }
  return ids;
}

}  // namespace peregrine::cli
