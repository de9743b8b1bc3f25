// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "decoding/beam_search.h"
#include "engine/request.h"
#include "model/decoder.h"
#include "model/encoder.h"
#include "ops/device.h"

namespace peregrine::engine {

/// Options of the rolling batch. Names follow LMI's where LMI has one.
struct EngineOptions {
  std::int32_t max_rolling_batch_size = 32;  ///< Sequences that may run at once, 1 to 4096.
  /// Prompt tokens that one step may compute, beside the decodes (chunked prefill), 1 to 131072.
  std::int32_t max_rolling_batch_prefill_tokens = 512;
  /// Longest prompt + output, and longest text of an encoder-decoder; 0 = what is usual for the model, at
  /// most its max_positions.
  std::int64_t max_model_length = 0;
  std::int32_t kv_blocks = 0;  ///< Blocks of the KV cache; 0 = enough for `kv_cache_bytes`.
  /// 0 = max_rolling_batch_size sequences of max_model_length, at most a quarter of memory.
  std::int64_t kv_cache_bytes = 0;
  /// Steps enqueued before the first one's tokens are known, 1 to 4. Results are the same for all. With k, a
  /// sequence that ends with an end token has up to k - 1 rows computed for nothing: a whole step where it
  /// runs alone. That buys nothing where the processor is the device, since planning a step takes
  /// microseconds; beside an accelerator, 2 keeps it busy while the host plans.
  std::int32_t steps_in_flight = 1;
  /// What a step that decodes should take at most, prompts beside the decodes being cut to fit (PrefillPace);
  /// 0: they are cut by max_rolling_batch_prefill_tokens alone. Ten tokens a second is faster than people
  /// read.
  double step_seconds = 0.1;
};

/// Where memory goes, decided when an engine starts.
struct MemoryPlan {
  std::uint64_t weight_bytes = 0;
  std::uint64_t kv_cache_bytes = 0;  ///< All blocks of the KV cache.
  std::uint64_t buffer_bytes = 0;    ///< Step buffers on the device, and logits on the host.
  std::int32_t kv_blocks = 0;
  std::uint64_t kv_block_bytes = 0;
  std::int64_t max_model_length = 0;
};

/// What the engine is doing, for metrics and tests.
struct EngineStats {
  std::uint64_t steps = 0;
  std::uint64_t prefill_tokens = 0;  ///< Prompt tokens computed, recomputation included.
  std::uint64_t decode_tokens = 0;   ///< Rows computed for sequences past their prompt.
  std::uint64_t preemptions = 0;
  std::int32_t running = 0;  ///< Sequences in the batch.
  std::int32_t waiting = 0;  ///< Requests in the queue.
  std::int32_t kv_blocks = 0;
  std::int32_t kv_blocks_used = 0;
};

/// The rolling batch over one model on one device: admits requests, plans steps (decodes first, then chunks
/// of prefill), keeps several in flight, samples, emits. Not thread-safe: one thread owns it. Results do not
/// depend on what shares the batch (see docs/design.md, section 5).
class Engine {
 public:
  /// `encoder` is that of an encoder-decoder model, null for others. All must outlive the engine. Throws
  /// Error naming the option that cannot be met, with the numbers.
  Engine(ops::Device& device, const model::Decoder& model, const EngineOptions& options,
         const model::Encoder* encoder = nullptr);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Queues a request. Throws Error(kInvalidArgument) where it can never run (prompt empty, token ids outside
  /// the vocabulary, prompt not shorter than the context, more blocks or sequences than there are), with the
  /// numbers; Error(kUnsupported) for stop strings where the vocabulary is not known; nothing else is
  /// disturbed. Where the context ends before max_new_tokens, the sequences end there, with finish reason
  /// "length". On replay, max_new_tokens counts the earlier tokens, which are not emitted again; a sequence
  /// that had ended has its finish event in the next step().
  void submit(Request request);

  /// The bytes of each token id, for requests submitted from now on: what stop_strings are found in.
  void set_vocabulary(std::shared_ptr<const decoding::TokenBytes> bytes);

  /// Ends a request: no event of it is emitted after the call, its blocks are free as soon as no step in
  /// flight uses them. Returns false where it is not known (finished, or never submitted). May be called by
  /// a sink, as may submit().
  bool cancel(RequestId id);

  /// Plans and launches what can be, then waits for the oldest step in flight and emits its events to `sink`.
  /// Returns false when there was nothing to do. A sequence whose logits are not numbers ends with kError.
  /// Throws Error(kInternal) where the device or sampling failed: the engine cannot go on then, every later
  /// call throws, and what it held is to be replayed elsewhere. What `sink` throws passes through, and does
  /// no harm.
  bool step(EventSink& sink);

  /// Whether no request is queued or running, and no step is in flight.
  bool idle() const;

  EngineStats stats() const;

  const MemoryPlan& memory_plan() const;

  /// Stops and recomputes the youngest running request, as happens when blocks run out. For tests of that
  /// law. Returns false where nothing runs.
  bool preempt_youngest();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::engine
