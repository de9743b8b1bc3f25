// SPDX-License-Identifier: Apache-2.0
#include "decoding/sampler.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "decoding/candidates.h"
#include "decoding/processors.h"
#include "decoding/random.h"
#include "decoding/sampler_scratch.h"
#include "decoding/softmax.h"
#include "decoding/top_tokens.h"

namespace peregrine::decoding {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Logits divided by less than this may overflow, and no two different ones would both be drawn.
constexpr float kLeastTemperature = 1e-5f;
// Output tokens that room is made for ahead of time; a longer output grows by doubling.
constexpr std::size_t kTokensReserved = 16384;

}  // namespace

struct SequenceSampler::Impl {
  Impl(const generation::Parameters& options, std::uint64_t random_seed, std::int32_t sequence,
       std::int64_t vocab, std::span<const std::int32_t> prompt, std::span<const std::int32_t> generated,
       std::span<const std::int32_t> encoder_ids);

  void append(std::int32_t id, bool generated);
  bool greedy() const { return !parameters.do_sample || parameters.temperature < kLeastTemperature; }
  /// Whether none of the cuts behind top_p is asked for.
  bool cuts_no_more() const {
    return parameters.min_p <= 0.0f && parameters.typical_p >= 1.0f && parameters.epsilon_cutoff <= 0.0f &&
           parameters.eta_cutoff <= 0.0f;
  }
  std::int32_t choose(std::span<const float> logits, SamplerScratch::Impl& scratch, float maximum) const;
  std::int32_t first_allowed(std::span<float> logits) const;

  generation::Parameters parameters;
  std::uint64_t seed;
  std::uint32_t sequence_index;
  std::size_t vocab_size;
  std::size_t prompt_size;
  std::vector<std::int32_t> tokens;
  ProcessorChain processors;
};

namespace {

std::size_t tokens_expected(const generation::Parameters& parameters, std::size_t given) {
  return given + std::min(static_cast<std::size_t>(std::max(parameters.max_new_tokens, 0)), kTokensReserved);
}

}  // namespace

SequenceSampler::Impl::Impl(const generation::Parameters& options, std::uint64_t random_seed,
                            std::int32_t sequence, std::int64_t vocab, std::span<const std::int32_t> prompt,
                            std::span<const std::int32_t> generated,
                            std::span<const std::int32_t> encoder_ids)
    : parameters(options),
      seed(random_seed),
      sequence_index(static_cast<std::uint32_t>(sequence)),
      vocab_size(static_cast<std::size_t>(vocab)),
      prompt_size(prompt.size()),
      processors(options, vocab, static_cast<std::int64_t>(prompt.size()),
                 tokens_expected(options, prompt.size() + generated.size()),
                 encoder_ids.empty() ? prompt : encoder_ids) {
  tokens.reserve(tokens_expected(options, prompt.size() + generated.size()));
  for (const std::int32_t id : prompt) append(id, false);
  for (const std::int32_t id : generated) append(id, true);
}

void SequenceSampler::Impl::append(std::int32_t id, bool generated) {
  if (id < 0 || static_cast<std::size_t>(id) >= vocab_size) {
    core::fail(core::ErrorKind::kInvalidArgument, "the {} must hold token ids from 0 to {}, found {}",
               generated ? "generated tokens" : "prompt", vocab_size - 1, id);
  }
  tokens.push_back(id);
  processors.append(tokens, generated);
}

std::int32_t SequenceSampler::Impl::choose(std::span<const float> logits, SamplerScratch::Impl& scratch,
                                           float maximum) const {
  if (greedy()) return static_cast<std::int32_t>(first_index_of(logits, scratch.block_maxima, maximum));
  Candidates& candidates = scratch.candidates;
  const std::uint64_t bits = random_bits(seed, sequence_index, tokens.size());
  const auto top_k = static_cast<std::size_t>(std::max(parameters.top_k, 0));
  const bool top_p = parameters.top_p < 1.0f;
  if (top_k == 0 && !top_p && cuts_no_more()) {
    return draw_from_all(logits, scratch.block_maxima, parameters.temperature, bits, scratch.block_sums);
  }
  if (top_k == 0 && top_p && cuts_no_more()) {
    return candidates.draw_top_p(logits, scratch.block_maxima, parameters.temperature, parameters.top_p, bits,
                                 scratch.block_sums);
  }
  if (top_k == 0 && top_p) {
    candidates.gather_top_p(logits, scratch.block_maxima, parameters.temperature, parameters.top_p);
  } else {
    // The share of top_p is one of all that top_k leaves, so that min_p leaves nothing out before it.
    candidates.gather(logits, scratch.block_maxima, parameters.temperature, top_k,
                      top_p ? 0.0f : parameters.min_p);
    if (top_k > 0) cut_top_k(candidates, top_k);
    candidates.weigh();
    if (top_p) cut_top_p(candidates, parameters.top_p);
  }
  if (parameters.min_p > 0.0f) cut_min_p(candidates, parameters.min_p);
  if (parameters.typical_p < 1.0f) cut_typical(candidates, parameters.typical_p);
  if (parameters.epsilon_cutoff > 0.0f) cut_epsilon(candidates, parameters.epsilon_cutoff);
  if (parameters.eta_cutoff > 0.0f) cut_eta(candidates, parameters.eta_cutoff);
  return draw(candidates, bits);
}

/// The lowest id that no processor forbids, whatever the model says of it; 0 where there is none.
std::int32_t SequenceSampler::Impl::first_allowed(std::span<float> logits) const {
  std::ranges::fill(logits, 0.0f);
  processors.apply(logits, tokens);
  const auto allowed = std::ranges::find_if(logits, [](float logit) { return logit > -kInfinity; });
  return allowed == logits.end() ? 0 : static_cast<std::int32_t>(allowed - logits.begin());
}

SequenceSampler::SequenceSampler(const generation::Parameters& parameters, std::uint64_t seed,
                                 std::int32_t sequence_index, std::int64_t vocab_size,
                                 std::span<const std::int32_t> prompt,
                                 std::span<const std::int32_t> generated,
                                 std::span<const std::int32_t> encoder_ids)
    : impl_(std::make_unique<Impl>(parameters, seed, sequence_index, vocab_size, prompt, generated,
                                   encoder_ids)) {}
SequenceSampler::~SequenceSampler() = default;
SequenceSampler::SequenceSampler(SequenceSampler&&) noexcept = default;
SequenceSampler& SequenceSampler::operator=(SequenceSampler&&) noexcept = default;

void SequenceSampler::sample(std::span<float> logits, SamplerScratch& scratch, SampledToken& out) {
  SamplerScratch::Impl& work = *scratch.impl_;
  if (logits.size() != impl_->vocab_size || logits.size() != work.model_logits.size()) {
    core::fail(core::ErrorKind::kInternal, "sampling got {} logits and scratch for {}, the vocabulary has {}",
               logits.size(), work.model_logits.size(), impl_->vocab_size);
  }
  float maximum = sanitize(logits, work.block_maxima);
  const double log_total = maximum > -kInfinity ? log_sum_exp(logits, maximum) : -kInfinity;
  find_top(logits, work.block_maxima, log_total,
           static_cast<std::size_t>(std::max(impl_->parameters.top_n_tokens, 0)), out.top);

  std::span<const float> model_logits = logits;
  if (!impl_->processors.empty()) {
    std::ranges::copy(logits, work.model_logits.begin());
    model_logits = work.model_logits;
    impl_->processors.apply(logits, impl_->tokens);
    maximum = sanitize(logits, work.block_maxima);
  }
  if (maximum > -kInfinity) {
    out.token.id = impl_->choose(logits, work, maximum);
    out.token.log_prob = log_probability(model_logits[static_cast<std::size_t>(out.token.id)], log_total);
  } else {
    out.token = {impl_->first_allowed(logits), -kInfinity};
  }
  impl_->append(out.token.id, true);
}

std::span<const std::int32_t> SequenceSampler::tokens() const { return impl_->tokens; }
std::int64_t SequenceSampler::prompt_size() const { return static_cast<std::int64_t>(impl_->prompt_size); }

}  // namespace peregrine::decoding
