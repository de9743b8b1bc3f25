// SPDX-License-Identifier: Apache-2.0
#include "engine/memory_plan.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"
#include "engine/checks.h"
#include "ops/device.h"

namespace peregrine::engine {

using core::ErrorKind;

namespace {

constexpr std::int64_t kMostStepsInFlight = 4;

std::int32_t choose_blocks(const EngineOptions& options, const EngineFacts& facts,
                           std::int64_t model_length) {
  const auto block_bytes = static_cast<std::int64_t>(facts.kv_block_bytes);
  const auto memory = static_cast<std::int64_t>(
      std::min<std::uint64_t>(facts.physical_memory, std::numeric_limits<std::int64_t>::max()));
  const std::int64_t most =
      std::min<std::int64_t>(memory / block_bytes, std::numeric_limits<std::int32_t>::max());
  if (options.kv_blocks != 0) {
    check_range("kv_blocks", options.kv_blocks, 1, most,
                fmt::format(" (a block takes {} bytes, and the memory is {} bytes)", block_bytes, memory));
    return options.kv_blocks;
  }
  // More blocks than all sequences at full length can hold would never be used.
  const std::int64_t texts =
      facts.encoder_layers > 0 ? 2 : 1;  // The text of an encoder-decoder, and its answer.
  const std::int64_t useful =
      options.max_rolling_batch_size * texts * core::ceil_div<std::int64_t>(model_length, ops::kBlockTokens);
  if (options.kv_cache_bytes != 0) {
    check_range("kv_cache_bytes", options.kv_cache_bytes, block_bytes, memory,
                fmt::format(" (a block of {} tokens takes {} bytes)", ops::kBlockTokens, block_bytes));
    return static_cast<std::int32_t>(std::min({options.kv_cache_bytes / block_bytes, useful, most}));
  }
  const std::int64_t quarter = memory / 4 / block_bytes;
  if (quarter < 1) {
    core::fail(ErrorKind::kInvalidArgument,
               "a KV block of {} tokens takes {} bytes, which a quarter of the memory ({} bytes) has no room "
               "for; set kv_cache_bytes",
               ops::kBlockTokens, block_bytes, memory);
  }
  return static_cast<std::int32_t>(std::min({useful, quarter, most}));
}

}  // namespace

std::uint64_t physical_memory() {
  const auto pages = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L));
  std::uint64_t memory = pages * static_cast<std::uint64_t>(std::max(::sysconf(_SC_PAGESIZE), 0L));
  // The file holds "max" where there is no limit, and is elsewhere under version 1 of control groups.
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    std::uint64_t limit = 0;
    if (file >> limit && limit > 0) memory = std::min(memory, limit);
  }
  return memory;
}

BatchLimits resolve_options(const EngineOptions& options, const EngineFacts& facts) {
  if (facts.kv_block_bytes == 0 || facts.max_positions < 2) {
    core::fail(ErrorKind::kInternal, "a model of {} positions with KV blocks of {} bytes",
               facts.max_positions, facts.kv_block_bytes);
  }
  check_range("max_rolling_batch_size", options.max_rolling_batch_size, 1, kMostSequences);
  check_range("max_rolling_batch_prefill_tokens", options.max_rolling_batch_prefill_tokens, 1,
              kMostPrefillTokens);
  check_range("steps_in_flight", options.steps_in_flight, 1, kMostStepsInFlight);
  const std::int64_t length =
      choose_model_length(facts.max_positions, facts.usual_positions, options.max_model_length, 2,
                          " (the model's longest context)");

  BatchLimits limits;
  limits.max_sequences = options.max_rolling_batch_size;
  // Buffers are planned for it: no larger than what could ever be computed at once.
  limits.prefill_tokens = static_cast<std::int32_t>(std::min<std::int64_t>(
      options.max_rolling_batch_prefill_tokens, length * options.max_rolling_batch_size));
  limits.max_model_length = static_cast<std::int32_t>(length);
  limits.kv_blocks = choose_blocks(options, facts, length);
  limits.steps_in_flight = options.steps_in_flight;
  limits.vocab_size = facts.vocab_size;
  limits.encoder_layers = facts.encoder_layers;
  limits.step_seconds = options.step_seconds;
  return limits;
}

}  // namespace peregrine::engine
