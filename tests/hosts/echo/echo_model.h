// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "generation/parameters.h"
#include "generation/sampled_token.h"
#include "hosts/echo/options.h"

namespace peregrine::echo {

namespace wire = channel::wire;

/// A model without weights, and its rolling batch. Token i of sequence s (counted from 0) is token
/// (i + s) mod size of the text, its log-probability -(i mod 8) / 8. Alternatives are the ids from that
/// token upwards, each one nat less likely. The text is that for the encoder where there is one, else the
/// prompt.
///
/// Where they are asked for, tokens of the prompt come first, kPromptPiece of them in a step, that at
/// position p with -(p mod 8) / 8. Of beams, hypothesis s is what sequence s would be, with the score -(s +
/// 1) / 4; they all come in the step in which the longest has its last token. Not thread-safe.
class EchoModel {
 public:
  static constexpr int kPromptPiece = 8;

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
    std::vector<std::int32_t> text;  ///< That is echoed.
    generation::Parameters parameters;
    std::vector<Sequence> sequences;  ///< Those that are reported.
    std::int32_t next_prompt = 1;     ///< Position of the next token of the prompt to be reported.
    std::int64_t steps = 0;           ///< Of a beam search.

    bool has_beams() const { return parameters.num_beams > 1; }
    bool ended() const;
  };

  void check(const Group& group, const wire::Submit& submit) const;
  void check_ids(std::string_view what, const google::protobuf::RepeatedField<std::int32_t>& ids) const;
  void admit();
  /// Why `token` at `position` of the output ends its sequence.
  std::optional<generation::FinishReason> end_at(const Group& group, std::int32_t token,
                                                 std::int64_t position) const;
  /// A step of one sequence: its next token, or the end that it had before.
  void step(Group& group, std::size_t sequence, wire::SequenceEvent& event);
  /// Appends the next tokens of the prompt; whether there were any.
  bool step_prompt(Group& group, wire::Events& events) const;
  /// All hypotheses, in the last step of their search.
  void step_beams(Group& group, wire::Events& events);
  generation::SampledToken echo(std::int32_t id, std::int64_t position, std::int32_t top) const;
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
