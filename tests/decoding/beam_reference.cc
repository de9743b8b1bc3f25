// SPDX-License-Identifier: Apache-2.0
#include "decoding/beam_reference.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "decoding/softmax.h"

namespace peregrine::decoding::testing {
namespace {

using generation::EarlyStopping;
using generation::FinishReason;

constexpr float kInf = std::numeric_limits<float>::infinity();

bool holds(const Tokens& list, std::int32_t id) { return std::ranges::find(list, id) != list.end(); }

/// log_softmax in the search's own arithmetic, so that ties are the same ones. (It has tests of its own.)
std::vector<float> log_softmax(std::vector<float> logits) {
  const double total = log_sum_exp(logits, *std::ranges::max_element(logits));
  for (float& logit : logits) logit = logit == -kInf ? -kInf : log_probability(logit, total);
  return logits;
}

/// What processors look at: whole sequences.
struct Context {
  const generation::Parameters& p;
  const Tokens& tokens;
  std::size_t prompt = 0;
  const Tokens& encoder;
  std::size_t most_tokens = 0;

  std::size_t drawn() const { return tokens.size() - prompt; }
};

std::int64_t count_of(std::span<const std::int32_t> list, std::int32_t id) {
  return std::ranges::count(list, id);
}

/// Whether `sequence` stands at the end of `tokens` with `next` behind them, where it is no longer than
/// `tokens` or one token.
bool completed(const Tokens& sequence, const Tokens& tokens, std::int32_t next) {
  if (sequence.size() > 1 && sequence.size() > tokens.size()) return false;
  Tokens all = tokens;
  all.push_back(next);
  return std::ranges::equal(sequence, std::span(all).last(sequence.size()));
}

/// Whether the last `n` - 1 of `tokens` and `next` stand in `text`.
bool has_ngram(const Tokens& text, std::size_t n, const Tokens& tokens, std::int32_t next) {
  Tokens all = tokens;
  all.push_back(next);
  return n > 0 && all.size() >= n && !std::ranges::search(text, std::span(all).last(n)).empty();
}

float penalize(const Context& c, const Tokens& others, std::int32_t token, float score) {
  const auto& p = c.p;
  for (std::size_t i = 0; i < p.sequence_bias.size(); ++i) {
    const auto& ids = p.sequence_bias[i].ids;
    const bool last =
        std::none_of(p.sequence_bias.begin() + static_cast<std::ptrdiff_t>(i) + 1, p.sequence_bias.end(),
                     [&](const auto& other) { return other.ids == ids; });
    if (last && completed(ids, c.tokens, token)) score += p.sequence_bias[i].bias;
  }
  score -= p.diversity_penalty * static_cast<float>(count_of(others, token));
  if (p.encoder_repetition_penalty != 1 && holds(c.encoder, token)) {
    const float inverse = 1 / p.encoder_repetition_penalty;
    score = score < 0 ? score * inverse : score / inverse;
  }
  if (p.repetition_penalty != 1 && holds(c.tokens, token)) {
    score = score < 0 ? score * p.repetition_penalty : score / p.repetition_penalty;
  }
  if (const auto times = count_of(std::span(c.tokens).subspan(c.prompt), token); times > 0) {
    score -= p.frequency_penalty * static_cast<float>(times) + p.presence_penalty;
  }
  return score;
}

bool forbidden(const Context& c, std::int32_t token) {
  const auto& p = c.p;
  if (has_ngram(c.tokens, static_cast<std::size_t>(p.no_repeat_ngram_size), c.tokens, token)) return true;
  if (has_ngram(c.encoder, static_cast<std::size_t>(p.encoder_no_repeat_ngram_size), c.tokens, token))
    return true;
  for (const Tokens& word : p.bad_words_ids) {
    const bool end = word.size() == 1 && holds(p.eos_token_ids, word[0]);
    if (!end && completed(word, c.tokens, token)) return true;
  }
  return (holds(p.eos_token_ids, token) || holds(p.stop_token_ids, token)) &&
         (c.tokens.size() < static_cast<std::size_t>(p.min_length) ||
          c.drawn() < static_cast<std::size_t>(p.min_new_tokens));
}

float decide(const Context& c, std::int32_t token, float score) {
  const auto& p = c.p;
  if (p.forced_bos_token_id && c.tokens.size() == 1) score = token == *p.forced_bos_token_id ? 0 : -kInf;
  if (!p.forced_eos_token_ids.empty() && c.drawn() + 1 == c.most_tokens) {
    score = holds(p.forced_eos_token_ids, token) ? 0 : -kInf;
  }
  if (const auto& decay = p.exponential_decay_length_penalty; decay && holds(p.eos_token_ids, token)) {
    const auto beyond = static_cast<double>(c.drawn()) - decay->start;
    if (beyond > 0 && score != -kInf) {
      score += std::abs(score) * static_cast<float>(std::pow(static_cast<double>(decay->factor), beyond) - 1);
    }
  }
  const std::size_t begin = c.prompt + (p.forced_bos_token_id && c.prompt <= 1 ? 1 : 0);
  if (holds(p.suppress_tokens, token)) return -kInf;
  return c.tokens.size() == begin && holds(p.begin_suppress_tokens, token) ? -kInf : score;
}

void process(const Context& c, const Tokens& chosen_by_others, std::vector<float>& scores) {
  for (std::size_t id = 0; id < scores.size(); ++id) {
    const auto token = static_cast<std::int32_t>(id);
    const float score = penalize(c, chosen_by_others, token, scores[id]);
    scores[id] = decide(c, token, forbidden(c, token) ? -kInf : score);
  }
  if (c.p.renormalize_logits && *std::ranges::max_element(scores) > -kInf) scores = log_softmax(scores);
}

struct Beam {
  Tokens tokens;
  float score = 0;
};

struct Candidate {
  float score = 0;
  std::size_t beam = 0;
  std::int32_t token = 0;
};

class Hypotheses {
 public:
  Hypotheses(const generation::Parameters& p, std::size_t most, std::int32_t max_length)
      : p_(p), most_(most), max_length_(max_length) {}

  double scored(float sum, std::size_t length) const {
    return static_cast<double>(sum) /
           std::pow(static_cast<double>(length), static_cast<double>(p_.length_penalty));
  }

  void add(Tokens output, float sum, FinishReason finish) {
    const double score = scored(sum, output.size());
    if (beams.size() < most_ || score > worst_) {
      beams.push_back({score, std::move(output), finish});
      if (beams.size() > most_) {
        std::vector<std::pair<double, std::size_t>> sorted;
        for (std::size_t i = 0; i < beams.size(); ++i) sorted.emplace_back(beams[i].score, i);
        std::ranges::sort(sorted);
        beams.erase(beams.begin() + static_cast<std::ptrdiff_t>(sorted[0].second));
        worst_ = sorted[1].first;
      } else {
        worst_ = std::min(score, worst_);
      }
    }
  }

  bool is_done(float best_sum, std::size_t length) const {
    if (beams.size() < most_) return false;
    if (p_.early_stopping == EarlyStopping::kTrue) return true;
    if (p_.early_stopping == EarlyStopping::kNever && p_.length_penalty > 0) {
      return worst_ >= scored(best_sum, static_cast<std::size_t>(max_length_));
    }
    return worst_ >= scored(best_sum, length);
  }

  std::vector<ReferenceHypothesis> beams;

 private:
  const generation::Parameters& p_;
  std::size_t most_;
  std::int32_t max_length_;
  double worst_ = 1e9;
};

class Search {
 public:
  Search(const generation::Parameters& p, const Model& model, const Tokens& prompt, const Tokens& encoder,
         std::int32_t most_tokens, const std::vector<std::string>& bytes, bool literally)
      : p_(p),
        model_(model),
        prompt_(prompt),
        encoder_(encoder),
        most_tokens_(static_cast<std::size_t>(most_tokens)),
        bytes_(bytes),
        literally_(literally),
        group_size_(static_cast<std::size_t>(p.num_beams / p.num_beam_groups)) {
    for (std::int32_t group = 0; group < p.num_beam_groups; ++group) {
      groups_.emplace_back(literally ? group_size_ : 1, Beam{prompt, -1e9f});
      groups_.back()[0].score = 0;
      hypotheses_.emplace_back(p, group_size_, most_tokens);
      done_.push_back(false);
    }
  }

  Reference run() {
    for (std::size_t length = 1; length <= most_tokens_ && !std::ranges::all_of(done_, std::identity());
         ++length) {
      Tokens chosen;
      for (std::size_t group = 0; group < groups_.size(); ++group) {
        if (!done_[group]) step(group, length, chosen);
      }
    }
    std::vector<ReferenceHypothesis> all;
    for (std::size_t group = 0; group < groups_.size(); ++group) {
      if (!done_[group]) add_open(group);
      all.insert(all.end(), hypotheses_[group].beams.begin(), hypotheses_[group].beams.end());
    }
    std::ranges::stable_sort(all, {}, &ReferenceHypothesis::score);
    while (!all.empty() && out_.results.size() < static_cast<std::size_t>(p_.n)) {
      out_.results.push_back(all.back());
      all.pop_back();
    }
    return out_;
  }

 private:
  Tokens output_of(const Beam& beam) const {
    return {beam.tokens.begin() + static_cast<std::ptrdiff_t>(prompt_.size()), beam.tokens.end()};
  }

  void add_open(std::size_t group) {
    for (const Beam& beam : groups_[group]) {
      if (beam.tokens.size() > prompt_.size()) {
        hypotheses_[group].add(output_of(beam), beam.score, FinishReason::kLength);
      }
    }
  }

  std::vector<Candidate> candidates(std::size_t group, const Tokens& chosen) const {
    std::vector<Candidate> all;
    for (std::size_t beam = 0; beam < groups_[group].size(); ++beam) {
      const Beam& from = groups_[group][beam];
      auto scores = log_softmax(model_(from.tokens));
      process({p_, from.tokens, prompt_.size(), encoder_, most_tokens_}, chosen, scores);
      for (std::size_t id = 0; id < scores.size(); ++id) {
        all.push_back({scores[id] + from.score, beam, static_cast<std::int32_t>(id)});
      }
    }
    std::ranges::stable_sort(all, std::ranges::greater(), &Candidate::score);
    if (literally_) {
      const std::size_t ends = p_.eos_token_ids.size() + p_.stop_token_ids.size();
      all.resize(std::min(all.size(), std::max<std::size_t>(2, 1 + ends) * group_size_));
    } else {
      std::erase_if(all, [](const Candidate& c) { return c.score == -kInf; });
    }
    return all;
  }

  std::optional<FinishReason> ends(const Beam& beam, std::int32_t token) const {
    if (holds(p_.eos_token_ids, token)) return FinishReason::kEosToken;
    if (holds(p_.stop_token_ids, token)) return FinishReason::kStopSequence;
    std::string text;
    for (const std::int32_t id : output_of(beam)) text += bytes_[static_cast<std::size_t>(id)];
    text += bytes_[static_cast<std::size_t>(token)];
    for (const std::string& stop : p_.stop_strings) {
      if (text.find(stop) != std::string::npos) return FinishReason::kStopSequence;
    }
    return std::nullopt;
  }

  void step(std::size_t group, std::size_t length, Tokens& chosen) {
    const auto all = candidates(group, chosen);
    if (all.empty()) {
      add_open(group);
      done_[group] = true;
      return;
    }
    std::vector<Beam> next;
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      const Candidate& candidate = all[rank];
      Beam beam = groups_[group][candidate.beam];
      const auto finish = ends(beam, candidate.token);
      beam.tokens.push_back(candidate.token);
      beam.score = candidate.score;
      if (finish) {
        if (rank >= group_size_) continue;
        hypotheses_[group].add(output_of(beam), beam.score, *finish);
      } else {
        next.push_back(std::move(beam));
      }
      if (candidate.score < -1e8f) out_.impossible = true;
      if (next.size() == group_size_) break;
    }
    if (next.size() < group_size_) out_.impossible = true;
    for (const Beam& beam : next) chosen.push_back(beam.tokens.back());
    groups_[group] = std::move(next);
    done_[group] = hypotheses_[group].is_done(all[0].score, length) || groups_[group].empty();
  }

  const generation::Parameters& p_;
  const Model& model_;
  const Tokens& prompt_;
  const Tokens& encoder_;
  std::size_t most_tokens_;
  const std::vector<std::string>& bytes_;
  bool literally_;
  std::size_t group_size_;
  std::vector<std::vector<Beam>> groups_;
  std::vector<Hypotheses> hypotheses_;
  std::vector<bool> done_;
  Reference out_;
};

}  // namespace

Reference reference_search(const generation::Parameters& parameters, const Model& model, const Tokens& prompt,
                           const Tokens& encoder, std::int32_t most_tokens,
                           const std::vector<std::string>& bytes, bool literally) {
  return Search(parameters, model, prompt, encoder, most_tokens, bytes, literally).run();
}

}  // namespace peregrine::decoding::testing
