// SPDX-License-Identifier: Apache-2.0
#include "decoding/beam_group.h"

#include <algorithm>
#include <utility>

#include "decoding/softmax.h"

namespace peregrine::decoding {

using generation::FinishReason;
using generation::TokenLogProb;

BeamEnds::BeamEnds(const generation::Parameters& parameters, const TokenBytes* bytes)
    : end_ids_(parameters.eos_token_ids),
      stop_ids_(parameters.stop_token_ids),
      strings_(parameters.stop_strings, bytes) {
  std::ranges::sort(end_ids_);
  std::ranges::sort(stop_ids_);
}

std::optional<FinishReason> BeamEnds::reason(const std::string& tail, std::int32_t token) const {
  if (std::ranges::binary_search(end_ids_, token)) return FinishReason::kEosToken;
  if (std::ranges::binary_search(stop_ids_, token)) return FinishReason::kStopSequence;
  if (!strings_.empty() && strings_.completes(tail, token)) return FinishReason::kStopSequence;
  return std::nullopt;
}

BeamGroup::BeamGroup(const generation::Parameters& parameters, std::size_t size, std::int32_t most_tokens,
                     const BeamEnds& ends, OpenBeam start)
    : size_(size), most_tokens_(most_tokens), ends_(ends), hypotheses_(size, parameters, most_tokens) {
  open_.reserve(size);
  spare_.reserve(size);
  next_.reserve(size);
  children_.reserve(size);
  chosen_.reserve(size);
  offered_.reserve(2 * size * size);
  open_.push_back(std::move(start));
}

void BeamGroup::offer(std::int32_t beam, const BeamRow& row) {
  // The group can use of one beam: those that go on among its best, up to the group's size, and those that
  // end among the best `size_` of all. So it is asked for more until enough of them go on.
  const OpenBeam& from = open_[static_cast<std::size_t>(beam)];
  const std::size_t vocab = row.model.size();
  std::size_t wanted = size_ + std::min(size_, ends_.tokens()), seen = 0, going_on = 0;
  for (;; wanted *= 2) {
    wanted = std::min(wanted, vocab);
    best_tokens(row.scores, from.score, wanted, best_);
    for (; seen < best_.size() && going_on < size_; ++seen) {
      const auto [score, token] = best_[seen];
      const auto finish = ends_.reason(from.tail, token);
      if (finish && seen >= size_) continue;
      going_on += finish ? 0 : 1;
      const float own = log_probability(row.model[static_cast<std::size_t>(token)], row.log_total);
      offered_.push_back({score, beam, {token, own}, finish});
    }
    if (going_on == size_ || best_.size() < wanted || wanted == vocab) return;
  }
}

std::span<const BeamGroup::Choice> BeamGroup::select(TokenTree& tree,
                                                     std::span<const std::vector<TokenLogProb>> tops) {
  chosen_.clear();
  if (offered_.empty()) {
    end_as_they_are(tree);
    return chosen_;
  }
  // What is equal goes by beam, then by id. (A stable sort would do without, but takes memory.)
  std::ranges::sort(offered_, [](const Choice& a, const Choice& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.beam != b.beam ? a.beam < b.beam : a.token.id < b.token.id;
  });
  ++length_;
  for (std::size_t rank = 0; rank < offered_.size() && chosen_.size() < size_; ++rank) {
    const Choice& choice = offered_[rank];
    if (!choice.finish) {
      chosen_.push_back(choice);
    } else if (rank < size_) {
      end(choice, tree, tops);
    }
  }
  const float best = offered_.front().score;
  offered_.clear();
  if (chosen_.empty() || hypotheses_.is_done(best, length_)) {
    close(tree);
  } else if (length_ >= most_tokens_) {
    for (Choice last : chosen_) {
      last.finish = FinishReason::kLength;
      end(last, tree, tops);
    }
    close(tree);
  } else {
    go_on(tree, tops);
  }
  return chosen_;
}

void BeamGroup::end(const Choice& choice, TokenTree& tree, std::span<const std::vector<TokenLogProb>> tops) {
  const auto beam = static_cast<std::size_t>(choice.beam);
  const std::int32_t node = tree.add(open_[beam].node, choice.token, tops[beam]);
  tree.release(hypotheses_.add(choice.score, length_, node, *choice.finish));
}

void BeamGroup::end_as_they_are(TokenTree& tree) {
  for (OpenBeam& beam : open_) {
    if (beam.node == TokenTree::kRoot) continue;
    tree.release(hypotheses_.add(beam.score, length_, std::exchange(beam.node, TokenTree::kRoot),
                                 FinishReason::kLength));
  }
  close(tree);
}

void BeamGroup::close(TokenTree& tree) {
  for (const OpenBeam& beam : open_) tree.release(beam.node);
  open_.clear();
  spare_.clear();
}

void BeamGroup::go_on(TokenTree& tree, std::span<const std::vector<TokenLogProb>> tops) {
  children_.assign(open_.size(), 0);
  for (const Choice& choice : chosen_) ++children_[static_cast<std::size_t>(choice.beam)];
  for (std::size_t i = 0; i < open_.size(); ++i) {
    if (children_[i] > 0) continue;
    tree.release(std::exchange(open_[i].node, TokenTree::kRoot));
    spare_.push_back(std::move(open_[i]));
  }
  // The last that goes on from a beam takes its state, the others copy it, into the memory of beams that
  // ended.
  next_.clear();
  for (const Choice& choice : chosen_) {
    const auto from = static_cast<std::size_t>(choice.beam);
    OpenBeam& parent = open_[from];
    const std::int32_t node = tree.add(parent.node, choice.token, tops[from]);
    if (--children_[from] == 0) {
      tree.release(parent.node);
      next_.push_back(std::move(parent));
    } else if (!spare_.empty()) {
      spare_.back() = parent;
      next_.push_back(std::move(spare_.back()));
      spare_.pop_back();
    } else {
      next_.push_back(parent);
    }
    OpenBeam& beam = next_.back();
    beam.node = node;
    beam.score = choice.score;
    if (!beam.processors.empty()) {
      beam.tokens.push_back(choice.token.id);
      beam.processors.append(beam.tokens, true);
    }
    if (!ends_.strings().empty()) ends_.strings().append(beam.tail, choice.token.id);
  }
  open_.swap(next_);
  next_.clear();
}

}  // namespace peregrine::decoding
