// SPDX-License-Identifier: Apache-2.0
#include "decoding/beam_search.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "decoding/beam_group.h"
#include "decoding/processors.h"
#include "decoding/sampler_scratch.h"
#include "decoding/softmax.h"
#include "decoding/token_tree.h"
#include "decoding/top_tokens.h"

namespace peregrine::decoding {
namespace {

using core::ErrorKind;
using core::fail;
using generation::TokenLogProb;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Tokens that room is made for ahead of time; more grow by doubling.
constexpr std::size_t kTokensReserved = 16384;

const generation::Parameters& checked(const generation::Parameters& parameters) {
  if (parameters.num_beams < 1) {
    fail(ErrorKind::kInvalidArgument, "parameter 'num_beams' must be at least 1, found {}",
         parameters.num_beams);
  }
  if (parameters.num_beam_groups < 1 || parameters.num_beams % parameters.num_beam_groups != 0) {
    fail(ErrorKind::kInvalidArgument, "parameter 'num_beam_groups' must divide num_beams, {}, found {}",
         parameters.num_beams, parameters.num_beam_groups);
  }
  return parameters;
}

/// The prompt as a beam that nothing has been drawn for.
OpenBeam start_of(const generation::Parameters& parameters, std::int64_t vocab_size,
                  std::span<const std::int32_t> prompt, std::span<const std::int32_t> encoder_ids) {
  // No room for tokens to come: it would be copied with every beam.
  OpenBeam beam{TokenTree::kRoot,
                0.0f,
                {},
                ProcessorChain(parameters, vocab_size, static_cast<std::int64_t>(prompt.size()),
                               prompt.size(), encoder_ids.empty() ? prompt : encoder_ids),
                {}};
  for (const std::int32_t id : prompt) {
    if (id < 0 || id >= vocab_size) {
      fail(ErrorKind::kInvalidArgument, "the prompt must hold token ids from 0 to {}, found {}",
           vocab_size - 1, id);
    }
    if (beam.processors.empty()) continue;
    beam.tokens.push_back(id);
    beam.processors.append(beam.tokens, false);
  }
  return beam;
}

}  // namespace

struct BeamSearch::Impl {
  Impl(const generation::Parameters& options, std::int64_t vocab, std::span<const std::int32_t> prompt,
       std::int32_t most_tokens, const TokenBytes* bytes, std::span<const std::int32_t> encoder_ids);

  void advance(std::span<float> logits, SamplerScratch::Impl& scratch);
  /// Takes in a row of logits as it comes from the model. False where there is a NaN.
  bool take(std::span<float> row, SamplerScratch::Impl& scratch, std::vector<TokenLogProb>& top);
  void offer(BeamGroup& group, std::size_t beam, std::span<float> row, SamplerScratch::Impl& scratch) const;
  void step(BeamGroup& group, std::span<const std::vector<TokenLogProb>> group_tops);
  void fail_search();
  void finish();

  generation::Parameters parameters;
  std::size_t vocab_size;
  BeamEnds ends;
  bool processing = false;  ///< Whether anything changes the model's log-probabilities.
  double log_total = 0;     ///< Of the row taken in.
  bool first = true;
  bool failed = false;
  std::int32_t live = 1;
  TokenTree tree;
  std::vector<BeamGroup> groups;
  std::vector<std::int32_t> taken;              ///< Tokens chosen in this step by the groups so far, sorted.
  std::vector<TokenPenalty> diversity;          ///< For `taken`.
  std::vector<std::vector<TokenLogProb>> tops;  ///< The most likely tokens after each live beam.
  std::vector<Beam> beams;
  std::vector<Hypothesis> results;
};

BeamSearch::Impl::Impl(const generation::Parameters& options, std::int64_t vocab,
                       std::span<const std::int32_t> prompt, std::int32_t most_tokens,
                       const TokenBytes* bytes, std::span<const std::int32_t> encoder_ids)
    : parameters(checked(options)), vocab_size(static_cast<std::size_t>(vocab)), ends(options, bytes) {
  most_tokens = std::max(most_tokens, 1);
  parameters.max_new_tokens = most_tokens;
  const OpenBeam start = start_of(parameters, vocab, prompt, encoder_ids);
  const auto count = static_cast<std::size_t>(parameters.num_beam_groups);
  const std::size_t size = static_cast<std::size_t>(parameters.num_beams) / count;
  processing = !start.processors.empty() || (count > 1 && parameters.diversity_penalty != 0.0f);
  groups.reserve(count);
  for (std::size_t i = 0; i < count; ++i) groups.emplace_back(parameters, size, most_tokens, ends, start);
  const auto width = static_cast<std::size_t>(parameters.num_beams);
  tops.resize(width);
  beams.reserve(width);
  // Beams and hypotheses that have nothing in common would hold so many.
  tree.reserve(std::min(2 * width * static_cast<std::size_t>(most_tokens), kTokensReserved));
}

void BeamSearch::Impl::advance(std::span<float> logits, SamplerScratch::Impl& scratch) {
  beams.clear();
  taken.clear();
  diversity.clear();
  std::size_t begin = 0;  // The group's first row.
  for (BeamGroup& group : groups) {
    if (group.done()) continue;
    const std::size_t count = group.open().size();
    for (std::size_t beam = 0; beam < count; ++beam) {
      const std::span<float> row = logits.subspan((begin + beam) * vocab_size, vocab_size);
      // At first all groups share the row of the prompt, and each works on it afresh.
      if (first && &group != &groups.front()) {
        if (processing) std::ranges::copy(scratch.model_logits, row.begin());
      } else if (!take(row, scratch, tops[begin + beam])) {
        return fail_search();
      }
      offer(group, beam, row, scratch);
    }
    const std::size_t before = beams.size();
    step(group, std::span(tops).subspan(begin, count));
    for (Beam& beam : std::span(beams).subspan(before)) beam.parent += static_cast<std::int32_t>(begin);
    if (!first) begin += count;
  }
  first = false;
  live = static_cast<std::int32_t>(beams.size());
  if (live == 0) finish();
}

bool BeamSearch::Impl::take(std::span<float> row, SamplerScratch::Impl& scratch,
                            std::vector<TokenLogProb>& top) {
  bool nan = false;
  const float maximum = sanitize(row, scratch.block_maxima, nan);
  log_total = maximum > -kInfinity ? log_sum_exp(row, maximum) : 0.0;
  find_top(row, scratch.block_maxima, log_total,
           static_cast<std::size_t>(std::max(parameters.top_n_tokens, 0)), top);
  if (processing) std::ranges::copy(row, scratch.model_logits.begin());
  return !nan;
}

void BeamSearch::Impl::offer(BeamGroup& group, std::size_t beam, std::span<float> row,
                             SamplerScratch::Impl& scratch) const {
  BeamRow offered{{row, scratch.block_maxima, log_total}, row, log_total};
  if (processing) {
    const OpenBeam& open = group.open()[beam];
    to_log_probabilities(row, log_total);
    open.processors.apply(row, open.tokens, diversity);
    sanitize(row, scratch.block_maxima);
    offered.scores.log_total = 0;
    offered.model = scratch.model_logits;
  }
  group.offer(static_cast<std::int32_t>(beam), offered);
}

void BeamSearch::Impl::step(BeamGroup& group, std::span<const std::vector<TokenLogProb>> group_tops) {
  const auto chosen = group.select(tree, group_tops);
  if (!group.done()) {
    for (const auto& choice : chosen) beams.push_back({choice.beam, choice.token.id});
  }
  if (parameters.diversity_penalty == 0.0f) return;
  for (const auto& choice : chosen) taken.push_back(choice.token.id);
  std::ranges::sort(taken);
  diversity.clear();
  for (std::size_t i = 0, same = 0; i < taken.size(); ++i, ++same) {
    if (i == 0 || taken[i] != taken[i - 1]) {
      diversity.push_back({taken[i], 0.0f});
      same = 0;
    }
    diversity.back().penalty = parameters.diversity_penalty * static_cast<float>(same + 1);
  }
}

void BeamSearch::Impl::fail_search() {
  failed = true;
  live = 0;
  beams.clear();
}

void BeamSearch::Impl::finish() {
  std::vector<BeamHypotheses::Ended> ended;
  for (const BeamGroup& group : groups) {
    ended.insert(ended.end(), group.hypotheses().ended().begin(), group.hypotheses().ended().end());
  }
  // From the back of a stable sort, as transformers takes them.
  std::ranges::stable_sort(ended, {}, &BeamHypotheses::Ended::score);
  std::ranges::reverse(ended);
  ended.resize(std::min(ended.size(), static_cast<std::size_t>(std::max(parameters.n, 1))));
  for (const auto& [score, node, reason] : ended) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    results.push_back({tree.path(node), static_cast<float>(std::clamp(score, -kLargest, kLargest)), reason});
  }
  failed = results.empty();
}

BeamSearch::BeamSearch(const generation::Parameters& parameters, std::int64_t vocab_size,
                       std::span<const std::int32_t> prompt, std::int32_t most_tokens,
                       const TokenBytes* bytes, std::span<const std::int32_t> encoder_ids)
    : impl_(std::make_unique<Impl>(parameters, vocab_size, prompt, most_tokens, bytes, encoder_ids)) {}
BeamSearch::~BeamSearch() = default;
BeamSearch::BeamSearch(BeamSearch&&) noexcept = default;
BeamSearch& BeamSearch::operator=(BeamSearch&&) noexcept = default;

void BeamSearch::advance(std::span<float> logits, SamplerScratch& scratch) {
  const std::size_t expected = static_cast<std::size_t>(impl_->live) * impl_->vocab_size;
  if (impl_->live == 0 || logits.size() != expected ||
      scratch.impl_->model_logits.size() != impl_->vocab_size) {
    fail(ErrorKind::kInternal,
         "beam search got {} logits and scratch for {}, and has {} beams over {} tokens", logits.size(),
         scratch.impl_->model_logits.size(), impl_->live, impl_->vocab_size);
  }
  impl_->advance(logits, *scratch.impl_);
}

std::int32_t BeamSearch::live() const { return impl_->live; }
std::span<const BeamSearch::Beam> BeamSearch::beams() const { return impl_->beams; }
bool BeamSearch::done() const { return impl_->live == 0; }
bool BeamSearch::failed() const { return impl_->failed; }
std::span<const BeamSearch::Hypothesis> BeamSearch::results() const { return impl_->results; }

}  // namespace peregrine::decoding
