// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/arguments.h"

namespace peregrine::ops {

/// Names a point in a stream: everything enqueued before the call of record() that returned it.
using EventId = std::uint64_t;

/// A queue of operations that run in order, at some time after they are enqueued, on any thread. Used by one
/// thread at a time. Enqueueing allocates nothing in the steady state, and blocks only when the queue is
/// full.
///
/// A function enqueued with host() or host_for_each() runs on a thread of the stream and must not throw.
/// Where an operation fails (which is a defect, not bad input), later operations do not run, though such
/// functions do, and wait() for any event behind the failure throws Error(kInternal). Destruction runs what
/// is queued.
class Stream {
 public:
  virtual ~Stream() = default;

  /// Copies host memory to the device. `source` is read when the copy runs: it must not change before that.
  virtual void upload(DeviceAddress target, const void* source, std::size_t bytes) = 0;
  /// Copies device memory to the host; `target` is valid once an event recorded later is done.
  virtual void download(void* target, DeviceAddress source, std::size_t bytes) = 0;
  /// Calls function(context) after all that was enqueued before, and before all that is enqueued later.
  virtual void host(void (*function)(void*), void* context) = 0;
  /// Calls function(context, item, thread) once for every item in [0, count), in the same place, in any order
  /// and several at a time: `thread`, in [0, host_threads()), says whose turn it is, and one thread does one
  /// at a time.
  virtual void host_for_each(void (*function)(void*, std::int64_t, int), void* context,
                             std::int64_t count) = 0;
  /// The threads of host_for_each(), at least 1.
  virtual int host_threads() const = 0;

  virtual void embed(const EmbedArgs& args) = 0;
  virtual void norm(const NormArgs& args) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  virtual void linear_pair(const LinearPairArgs& args) = 0;
  virtual void gated_activation(const GatedActivationArgs& args) = 0;
  virtual void rotary_angles(const RotaryAnglesArgs& args) = 0;
  virtual void rotate_and_store(const RotateAndStoreArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void route(const RouteArgs& args) = 0;
  virtual void experts(const ExpertsArgs& args) = 0;
  virtual void copy_blocks(const CopyBlocksArgs& args) = 0;

  /// Marks the present end of the queue.
  virtual EventId record() = 0;
  /// Whether all before the event has run. Never blocks.
  virtual bool done(EventId event) = 0;
  /// Waits until all before the event has run.
  virtual void wait(EventId event) = 0;
};

}  // namespace peregrine::ops
