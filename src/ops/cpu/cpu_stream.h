// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "core/progress.h"
#include "ops/cpu/compute.h"
#include "ops/cpu/operations.h"
#include "ops/stream.h"

namespace peregrine::ops::cpu {

/// A ring of operations, and a thread that carries them out in order with all threads of the device, of which
/// it is the first (and has its seat). Where nothing is queued the thread spins for 50 us and then sleeps.
/// Several streams of one device take turns operation by operation.
///
/// After an operation failed, the stream carries out no other, except for functions of host() and
/// host_for_each(), and events;
/// wait() throws what was wrong. Destruction waits for all that is queued.
class CpuStream final : public Stream {
 public:
  explicit CpuStream(Compute& compute);
  ~CpuStream() override;

  void upload(DeviceAddress target, const void* source, std::size_t bytes) override;
  void download(void* target, DeviceAddress source, std::size_t bytes) override;
  void host(void (*function)(void*), void* context) override;
  void host_for_each(void (*function)(void*, std::int64_t, int), void* context, std::int64_t count) override;
  int host_threads() const override { return compute_.threads(); }
  void embed(const EmbedArgs& args) override { enqueue(args); }
  void norm(const NormArgs& args) override { enqueue(args); }
  void linear(const LinearArgs& args) override { enqueue(args); }
  void linear_pair(const LinearPairArgs& args) override { enqueue(args); }
  void gated_activation(const GatedActivationArgs& args) override { enqueue(args); }
  void rotary_angles(const RotaryAnglesArgs& args) override { enqueue(args); }
  void rotate_and_store(const RotateAndStoreArgs& args) override { enqueue(args); }
  void attention(const AttentionArgs& args) override { enqueue(args); }
  void route(const RouteArgs& args) override { enqueue(args); }
  void experts(const ExpertsArgs& args) override { enqueue(args); }
  void copy_blocks(const CopyBlocksArgs& args) override { enqueue(args); }
  EventId record() override;
  bool done(EventId event) override;
  void wait(EventId event) override;

 private:
  struct Copy {
    void* target;
    const void* source;
    std::size_t bytes;
  };
  struct HostCall {
    void (*function)(void*);
    void* context;
  };
  struct HostLoop {
    void (*function)(void*, std::int64_t, int);
    void* context;
    std::int64_t count;
  };
  struct Stop {};
  using Operation = std::variant<Stop, Copy, HostCall, HostLoop, EmbedArgs, NormArgs, LinearArgs,
                                 LinearPairArgs, GatedActivationArgs, RotaryAnglesArgs, RotateAndStoreArgs,
                                 AttentionArgs, RouteArgs, ExpertsArgs, CopyBlocksArgs>;

  void enqueue(const Operation& operation);
  void dispatch();
  void execute(const Operation& operation);
  void copy(const Copy& copy);

  Compute& compute_;
  Plans plans_;
  std::vector<Operation> ring_;
  // Counts since creation; operation i lies at ring_[i % size].
  core::Progress enqueued_;
  core::Progress finished_;
  std::atomic<bool> failed_{false};
  std::mutex failure_mutex_;
  std::string failure_;
  std::thread thread_;
};

}  // namespace peregrine::ops::cpu
