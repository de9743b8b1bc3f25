// SPDX-License-Identifier: Apache-2.0
#include "host/session.h"

#include <chrono>
#include <cstdlib>
#include <utility>

#include "core/log.h"
#include "core/processors.h"

namespace peregrine::host {
namespace {

using Clock = std::chrono::steady_clock;

std::unique_ptr<ops::Device> create_device(const configuration::ModelOptions& options) {
  std::string isa = options.isa;
  if (isa.empty()) {
    if (const char* variable = std::getenv("PEREGRINE_ISA")) isa = variable;
  }
  const auto processors = core::allowed_processors().size();
  if (static_cast<std::size_t>(options.cpu_threads) > processors) {
    spdlog::warn(
        "option.cpu_threads={} is more than the {} processors that this process may use: threads will wait "
        "for each other",
        options.cpu_threads, processors);
  }
  return ops::create_device(options.device, {.threads = options.cpu_threads, .isa = isa});
}

model::LoadOptions load_options(const configuration::ModelOptions& options,
                                const model::LoadProgress& progress, std::uint64_t seed) {
  return {.weights = options.dtype,
          .compute = options.compute_dtype,
          .cache = options.kv_cache_dtype,
          .quantization = options.quantize,
          .allow_pickle = options.allow_pickle,
          .progress = progress,
          .random_seed = seed};
}

template <typename Load>
Session load_timed(const configuration::ModelOptions& options, const Load& load) {
  auto device = create_device(options);
  const auto start = Clock::now();
  auto model = load(*device);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return {std::move(device), std::move(model), seconds};
}

}  // namespace

Session load_session(const std::filesystem::path& directory, const configuration::ModelOptions& options,
                     const model::LoadProgress& progress) {
  return load_timed(options, [&](ops::Device& device) {
    return model::load_model(directory, device, load_options(options, progress, 0));
  });
}

Session load_random_session(const std::string& shape, std::uint64_t seed,
                            const configuration::ModelOptions& options, const model::LoadProgress& progress) {
  return load_timed(options, [&](ops::Device& device) {
    return model::load_random_model(shape, device, load_options(options, progress, seed));
  });
}

engine::EngineOptions engine_options(const configuration::ModelOptions& options) {
  engine::EngineOptions out;
  out.max_rolling_batch_size = options.max_rolling_batch_size;
  out.max_rolling_batch_prefill_tokens = options.max_rolling_batch_prefill_tokens;
  out.max_model_length = options.max_model_len;
  out.kv_blocks = options.kv_blocks;
  return out;
}

}  // namespace peregrine::host
