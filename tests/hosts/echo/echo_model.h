// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "generation/parameters.h"
#include "hosts/echo/options.h"

namespace peregrine::echo {

namespace wire = channel::wire;

/// A model without weights, and its rolling batch. Token i of sequence s (counted from 0) is token
/// (i + s) mod size of the prompt, its log-probability -(i mod 8) / 8. Alternatives are the ids from that
/// token upwards, each one nat less likely. Not thread-safe.
class EchoModel {
 public:
  EchoModel(std::string name, const Options& options);

  /// Queues a request. Throws Error with the reason for which a host would refuse it.
  void submit(const wire::Submit& submit);
  /// Forgets a request; nothing where there is none.
  void cancel(std::uint64_t request);
  /// Whether no request is left.
  bool idle() const { return running_.empty() && waiting_.empty(); }

  /// Admits what fits, whole requests in the order of their coming, and gives every running sequence its next
  /// token. One that had ended before it came here (on replay) gets its end alone.
  void step(wire::Events& events);

  void stats(wire::Stats& stats) const;

 private:
  struct Sequence {
    std::int64_t length = 0;  ///< Tokens of output so far.
    bool ended = false;
    std::optional<generation::FinishReason> ended_before;  ///< On replay.
  };
  struct Group {
    std::uint64_t request = 0;
    std::vector<std::int32_t> prompt;
    generation::Parameters parameters;
    std::vector<Sequence> sequences;
  };

  void check(const Group& group, const wire::Submit& submit) const;
  void check_ids(std::string_view what, const google::protobuf::RepeatedField<std::int32_t>& ids) const;
  void admit();
  /// Why `token` at `position` of the output ends its sequence.
  std::optional<generation::FinishReason> end_at(const Group& group, std::int32_t token,
                                                 std::int64_t position) const;
  /// Appends the token and returns its id.
  std::int32_t emit_token(const Group& group, std::size_t sequence, wire::SequenceEvent& event) const;
  std::int32_t running_sequences() const;

  std::string name_;
  Options options_;
  std::vector<Group> running_;
  std::deque<Group> waiting_;
  std::uint64_t steps_ = 0;
  std::uint64_t prefill_tokens_ = 0;
  std::uint64_t decode_tokens_ = 0;
};

}  // namespace peregrine::echo
