// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "hosts/echo/options.h"

namespace peregrine::echo {

namespace wire = channel::wire;

/// An encoder without weights. Value i of a text's vector is token i mod size of it, plus 0.5 for a
/// classification, plus 0.25 times the pooling, plus 0.125 where it is to be normalized, plus the token type
/// where there are any. Not thread-safe.
class EchoEncoder {
 public:
  EchoEncoder(std::string name, const Options& options) : name_(std::move(name)), options_(options) {}

  /// Queues a text. Throws Error with the reason for which a host would refuse it.
  void submit(const wire::Submit& submit);
  void cancel(std::uint64_t request);
  bool idle() const { return waiting_.empty(); }
  /// Encodes as many texts as fit a batch; gives their vectors in small pieces, and then the step's Events.
  void step(const std::function<void(const wire::FromHost&)>& send);
  void stats(wire::Stats& stats) const;

 private:
  std::string name_;
  Options options_;
  std::deque<wire::Submit> waiting_;
  std::uint64_t steps_ = 0;
  std::uint64_t tokens_ = 0;
};

}  // namespace peregrine::echo
