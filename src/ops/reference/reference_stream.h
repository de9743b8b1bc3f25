// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ops/reference/address_space.h"
#include "ops/stream.h"

namespace peregrine::ops::reference {

/// A queue that runs as late as it may: nothing happens on enqueueing, wait() runs what it must, and done()
/// runs one operation each time it has to say no (so that asking again and again ends). Only a full queue
/// runs its oldest operation to make room, and destruction runs all that is left.
///
/// After an operation has failed none but functions of host() and host_for_each() run, and wait() throws what
/// was wrong for every event behind the failure.
class ReferenceStream final : public Stream {
 public:
  explicit ReferenceStream(const AddressSpace& memory);
  ~ReferenceStream() override;

  void upload(DeviceAddress target, const void* source, std::size_t bytes) override;
  void download(void* target, DeviceAddress source, std::size_t bytes) override;
  void host(void (*function)(void*), void* context) override;
  void host_for_each(void (*function)(void*, std::int64_t, int), void* context, std::int64_t count) override;
  int host_threads() const override { return 1; }
  void embed(const EmbedArgs& args) override { enqueue(args); }
  void norm(const NormArgs& args) override { enqueue(args); }
  void linear(const LinearArgs& args) override { enqueue(args); }
  void linear_pair(const LinearPairArgs& args) override {
    enqueue(args.first);
    enqueue(args.second);
  }
  void gated_activation(const GatedActivationArgs& args) override { enqueue(args); }
  void rotary_angles(const RotaryAnglesArgs& args) override { enqueue(args); }
  void rotate_and_store(const RotateAndStoreArgs& args) override { enqueue(args); }
  void attention(const AttentionArgs& args) override { enqueue(args); }
  void route(const RouteArgs& args) override { enqueue(args); }
  void experts(const ExpertsArgs& args) override { enqueue(args); }
  void copy_blocks(const CopyBlocksArgs& args) override { enqueue(args); }

  EventId record() override { return enqueued_; }
  bool done(EventId event) override;
  void wait(EventId event) override;

 private:
  struct Upload {
    DeviceAddress target;
    const void* source;
    std::size_t bytes;
  };
  struct Download {
    void* target;
    DeviceAddress source;
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
  struct Failure {
    EventId operation;
    std::string message;
  };
  using Operation = std::variant<HostCall, HostLoop, Upload, Download, EmbedArgs, NormArgs, LinearArgs,
                                 GatedActivationArgs, RotaryAnglesArgs, RotateAndStoreArgs, AttentionArgs,
                                 RouteArgs, ExpertsArgs, CopyBlocksArgs>;

  void enqueue(const Operation& operation);
  void run_oldest();
  void run(const Operation& operation) const;

  const AddressSpace& memory_;
  std::vector<Operation> ring_;  // operation i is at i modulo the size
  EventId enqueued_ = 0;
  EventId executed_ = 0;
  std::optional<Failure> failure_;
};

}  // namespace peregrine::ops::reference
