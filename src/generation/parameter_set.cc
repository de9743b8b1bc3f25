// SPDX-License-Identifier: Apache-2.0
#include "generation/parameter_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/suggest.h"
#include "generation/parameter_table.h"

namespace peregrine::generation {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::int64_t kMaxInt = 2147483647;
constexpr std::int64_t kMaxSequences = 128;
constexpr float kMaxLengthPenalty = 10;
// Below this no two logits that differ would both be drawn; vLLM draws the line at the same place.
constexpr double kGreedyTemperature = 1e-5;

std::string where(std::string_view name) { return fmt::format("parameter '{}'", name); }

/// A name as it is compared: people swap underscores, hyphens and capitals.
std::string folded(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c != '_' && c != '-') out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

bool in_vocab(std::int32_t id, std::int64_t vocab_size) { return id >= 0 && id < vocab_size; }

void check_ids(const std::vector<std::int32_t>& ids, std::int64_t vocab_size, std::string_view name) {
  for (const std::int32_t id : ids) {
    if (!in_vocab(id, vocab_size)) {
      fail(ErrorKind::kInvalidArgument, "parameter '{}' must hold token ids from 0 to {}, found {}", name,
           vocab_size - 1, id);
    }
  }
}

/// The ids of the model's own defaults that exist in its vocabulary; others are never drawn.
std::vector<std::int32_t> known_ids(std::vector<std::int32_t> ids, std::int64_t vocab_size) {
  std::erase_if(ids, [&](std::int32_t id) { return !in_vocab(id, vocab_size); });
  return ids;
}

/// Brings together what was requested and the model's defaults, one subject per function.
class Resolver {
 public:
  Resolver(const Requested& requested, const model_info::ModelInfo& model, std::int64_t vocab_size,
           std::int64_t prompt_size)
      : asked_(requested),
        model_(model),
        defaults_(model.generation),
        vocab_size_(vocab_size),
        prompt_size_(prompt_size) {}

  Parameters resolve() {
    lengths();
    sampling();
    penalties();
    forbidden();
    ends();
    decided();
    beams();
    sequences();
    return std::move(out_);
  }

 private:
  /// Requested, else the model's, else `otherwise`.
  template <typename Out, typename Value>
  static Out first(const std::optional<Value>& asked, const std::optional<Value>& fallback, Out otherwise) {
    if (asked) return static_cast<Out>(*asked);
    return fallback ? static_cast<Out>(*fallback) : otherwise;
  }

  void lengths() {
    if (asked_.max_new_tokens) {
      out_.max_new_tokens = static_cast<std::int32_t>(*asked_.max_new_tokens);
    } else if (asked_.max_length) {
      if (*asked_.max_length <= prompt_size_) {
        fail(ErrorKind::kInvalidArgument,
             "parameter 'max_length' must be above the length of the prompt, {}, found {}", prompt_size_,
             *asked_.max_length);
      }
      out_.max_new_tokens = static_cast<std::int32_t>(*asked_.max_length - prompt_size_);
    } else if (defaults_.max_new_tokens) {
      out_.max_new_tokens = static_cast<std::int32_t>(std::min(*defaults_.max_new_tokens, kMaxInt));
    } else if (defaults_.max_length && *defaults_.max_length > prompt_size_) {
      out_.max_new_tokens =
          static_cast<std::int32_t>(std::min(*defaults_.max_length - prompt_size_, kMaxInt));
    }
    if (asked_.min_new_tokens && asked_.max_new_tokens && *asked_.min_new_tokens > *asked_.max_new_tokens) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'min_new_tokens' must be at most max_new_tokens, {}, found {}", *asked_.max_new_tokens,
           *asked_.min_new_tokens);
    }
    out_.min_new_tokens = static_cast<std::int32_t>(
        std::min(first(asked_.min_new_tokens, defaults_.min_new_tokens, std::int64_t{0}), kMaxInt));
    out_.min_length = static_cast<std::int32_t>(
        std::min(first(asked_.min_length, defaults_.min_length, std::int64_t{0}), kMaxInt));
  }

  void sampling() {
    const double temperature = first(asked_.temperature, defaults_.temperature, 1.0);
    out_.do_sample = first(asked_.do_sample, defaults_.do_sample, asked_.temperature.has_value());
    if (temperature < kGreedyTemperature) out_.do_sample = false;
    if (temperature >= kGreedyTemperature) out_.temperature = static_cast<float>(temperature);
    const std::int64_t top_k = first(asked_.top_k, defaults_.top_k, std::int64_t{0});
    out_.top_k = static_cast<std::int32_t>(std::clamp<std::int64_t>(top_k, 0, kMaxInt));
    out_.top_p = first(asked_.top_p, defaults_.top_p, out_.top_p);
    out_.min_p = first(asked_.min_p, defaults_.min_p, out_.min_p);
    out_.typical_p = first(asked_.typical_p, defaults_.typical_p, out_.typical_p);
    // transformers takes 1 for off, too.
    const auto cutoff = [](double value) { return value < 1 ? static_cast<float>(value) : 0.0f; };
    out_.epsilon_cutoff = cutoff(asked_.epsilon_cutoff.value_or(0));
    out_.eta_cutoff = cutoff(asked_.eta_cutoff.value_or(0));
    out_.seed = asked_.seed;
  }

  void penalties() {
    // The default is not checked against the range of requests, only against what float can divide by.
    out_.repetition_penalty = std::clamp(
        first(asked_.repetition_penalty, defaults_.repetition_penalty, out_.repetition_penalty), 1e-3f, 1e3f);
    out_.presence_penalty = static_cast<float>(asked_.presence_penalty.value_or(0));
    out_.frequency_penalty = static_cast<float>(asked_.frequency_penalty.value_or(0));
    const std::int64_t size =
        first(asked_.no_repeat_ngram_size, defaults_.no_repeat_ngram_size, std::int64_t{0});
    out_.no_repeat_ngram_size = static_cast<std::int32_t>(std::min(size, std::int64_t{1024}));
    out_.encoder_repetition_penalty = static_cast<float>(asked_.encoder_repetition_penalty.value_or(1));
    out_.encoder_no_repeat_ngram_size =
        static_cast<std::int32_t>(asked_.encoder_no_repeat_ngram_size.value_or(0));
    out_.renormalize_logits = asked_.renormalize_logits.value_or(false);
  }

  void forbidden() {
    if (asked_.bad_words_ids) {
      out_.bad_words_ids = *asked_.bad_words_ids;
      for (const auto& word : out_.bad_words_ids) check_ids(word, vocab_size_, "bad_words_ids");
    } else if (defaults_.bad_words_ids) {
      for (const auto& word : *defaults_.bad_words_ids) {
        if (known_ids(word, vocab_size_).size() == word.size()) out_.bad_words_ids.push_back(word);
      }
    }
    if (asked_.suppress_tokens) {
      out_.suppress_tokens = *asked_.suppress_tokens;
      check_ids(out_.suppress_tokens, vocab_size_, "suppress_tokens");
    } else if (defaults_.suppress_tokens) {
      out_.suppress_tokens = known_ids(*defaults_.suppress_tokens, vocab_size_);
    }
  }

  void ends() {
    if (asked_.eos_token_id) check_ids(*asked_.eos_token_id, vocab_size_, "eos_token_id");
    out_.eos_token_ids =
        asked_.eos_token_id ? *asked_.eos_token_id : known_ids(model_.eos_token_ids, vocab_size_);
    if (asked_.ignore_eos_token.value_or(false)) out_.eos_token_ids.clear();
    out_.stop_token_ids = asked_.stop_token_ids.value_or(Requested::Tokens{});
    check_ids(out_.stop_token_ids, vocab_size_, "stop_token_ids");
  }

  /// What decides over single tokens, beside the ends.
  void decided() {
    out_.sequence_bias = asked_.sequence_bias;
    for (const SequenceBias& bias : out_.sequence_bias) check_ids(bias.ids, vocab_size_, "sequence_bias");
    out_.begin_suppress_tokens = asked_.begin_suppress_tokens.value_or(Requested::Tokens{});
    check_ids(out_.begin_suppress_tokens, vocab_size_, "begin_suppress_tokens");
    if (asked_.forced_bos_token_id) {
      check_ids(*asked_.forced_bos_token_id, vocab_size_, "forced_bos_token_id");
      out_.forced_bos_token_id = asked_.forced_bos_token_id->front();
    }
    out_.forced_eos_token_ids = asked_.forced_eos_token_id.value_or(Requested::Tokens{});
    check_ids(out_.forced_eos_token_ids, vocab_size_, "forced_eos_token_id");
    out_.exponential_decay_length_penalty = asked_.exponential_decay_length_penalty;
  }

  void beams() {
    // What the model recommends, and what the request says of sampling, each give way to what the request
    // says of the other.
    const bool asked_sampling = out_.do_sample && (asked_.do_sample || asked_.temperature);
    std::int64_t count = asked_sampling ? 1 : std::min(defaults_.num_beams.value_or(1), kMaxSequences);
    if (asked_.num_beams) count = *asked_.num_beams;
    if (count > 1 && out_.do_sample && asked_.do_sample) {
      fail(ErrorKind::kUnsupported,
           "parameter 'do_sample' must be false with num_beams above 1, found true with num_beams {}: beams "
           "do not "
           "sample; set do_sample to false, or num_beams to 1",
           count);
    }
    if (count > 1) out_.do_sample = false;
    out_.num_beams = static_cast<std::int32_t>(count);
    groups();
    out_.length_penalty =
        std::clamp(first(asked_.length_penalty, defaults_.length_penalty, out_.length_penalty),
                   -kMaxLengthPenalty, kMaxLengthPenalty);
    if (asked_.early_stopping) {
      out_.early_stopping = *asked_.early_stopping;
    } else if (defaults_.early_stopping) {
      out_.early_stopping = early_stopping(*defaults_.early_stopping);
    }
  }

  static EarlyStopping early_stopping(model_info::EarlyStopping value) {
    switch (value) {
      case model_info::EarlyStopping::kFalse:
        return EarlyStopping::kFalse;
      case model_info::EarlyStopping::kTrue:
        return EarlyStopping::kTrue;
      case model_info::EarlyStopping::kNever:
        break;
    }
    return EarlyStopping::kNever;
  }

  void groups() {
    const std::int32_t beams = out_.num_beams;
    const double rate = asked_.beam_search_diversity_rate.value_or(0);
    const double penalty = asked_.diversity_penalty.value_or(rate);
    if (rate > 0 && penalty != rate) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'beam_search_diversity_rate' must be the same as diversity_penalty, {}, found {}: they "
           "are one "
           "thing; give one of them",
           penalty, rate);
    }
    if (rate > 0 && beams == 1) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'beam_search_diversity_rate' must be 0 without beams, found {}; set num_beams above 1",
           rate);
    }
    const std::int64_t groups = asked_.num_beam_groups.value_or(rate > 0 ? beams : 1);
    if (beams % groups != 0) {
      fail(ErrorKind::kInvalidArgument, "parameter 'num_beam_groups' must divide num_beams, {}, found {}",
           beams, groups);
    }
    if (penalty > 0 && groups == 1) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'diversity_penalty' must be 0 with one group of beams, found {}; set num_beam_groups "
           "to 2 or "
           "more",
           penalty);
    }
    if (penalty == 0 && groups > 1) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'diversity_penalty' must be above 0 with {} groups of beams, found {}: all groups "
           "would be the "
           "same",
           groups, penalty);
    }
    out_.num_beam_groups = static_cast<std::int32_t>(groups);
    out_.diversity_penalty = static_cast<float>(penalty);
  }

  void sequences() {
    const bool beams = out_.num_beams > 1;
    // The model's own number is no reason to refuse a request that does not sample, or has fewer beams.
    const std::int64_t most = beams ? out_.num_beams : out_.do_sample ? kMaxSequences : 1;
    const std::int64_t usual = std::min(defaults_.num_return_sequences.value_or(1), most);
    out_.n = static_cast<std::int32_t>(first(asked_.n, asked_.best_of, usual));
    out_.best_of = std::max(out_.n, static_cast<std::int32_t>(asked_.best_of.value_or(1)));
    if (asked_.best_of && *asked_.best_of != out_.n) check_best_of(*asked_.best_of);
    if (beams && out_.n > out_.num_beams) {
      fail(ErrorKind::kInvalidArgument, "parameter 'n' must be at most num_beams, {}{}, found {}",
           out_.num_beams, asked_.num_beams ? "" : " in the model's generation_config.json", out_.n);
    }
    if (out_.n > 1 && !out_.do_sample && !beams) {
      fail(
          ErrorKind::kInvalidArgument,
          "parameter 'n' must be 1 without sampling or beams, found {}: all sequences would be the same; set "
          "do_sample or a temperature above 0, or num_beams",
          out_.n);
    }
    out_.top_n_tokens = static_cast<std::int32_t>(asked_.top_n_tokens.value_or(0));
    if (asked_.prompt_logprobs) out_.prompt_logprobs = static_cast<std::int32_t>(*asked_.prompt_logprobs);
  }

  /// `best_of` differs from n.
  void check_best_of(std::int64_t best_of) const {
    if (best_of < out_.n) {
      fail(ErrorKind::kInvalidArgument, "parameter 'best_of' must be at least n, {}, found {}", out_.n,
           best_of);
    }
    if (out_.num_beams > 1) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'best_of' must be the same as n, {}, with num_beams above 1, found {}: the best are "
           "chosen of "
           "the {} beams",
           out_.n, best_of, out_.num_beams);
    }
    if (!out_.do_sample) {
      fail(ErrorKind::kInvalidArgument,
           "parameter 'best_of' must be the same as n, {}, without sampling, found {}: all sequences would "
           "be the "
           "same; set do_sample or a temperature above 0",
           out_.n, best_of);
    }
  }

  const Requested& asked_;
  const model_info::ModelInfo& model_;
  const model_info::GenerationDefaults& defaults_;
  std::int64_t vocab_size_;
  std::int64_t prompt_size_;
  Parameters out_;
};

}  // namespace

std::span<const ParameterInfo> parameter_table() {
  static const std::vector<ParameterInfo> kTable = [] {
    std::vector<ParameterInfo> table;
    for (const Definition& definition : definitions()) table.push_back(definition.info);
    return table;
  }();
  return kTable;
}

bool ParameterSet::set(std::string_view name, const boost::json::value& value, bool null_eos_means_none) {
  const Definition* definition = find_definition(name);
  if (definition == nullptr) return false;
  boost::json::value kept = value;
  if (value.is_null()) {
    if (definition->info.name != "eos_token_id" || !null_eos_means_none) return true;
    kept = boost::json::array();
  }
  Requested ignored;
  definition->read(core::JsonView(kept, where(name)), ignored);
  Given& given = values_[std::string(definition->info.name)];
  if (!given.name.empty() && given.name != name && given.value != kept) {
    fail(ErrorKind::kInvalidArgument,
         "parameters '{}' and '{}' are two names of one thing and differ; give one of them", given.name,
         name);
  }
  given = {std::string(name), std::move(kept)};
  return true;
}

std::string_view ParameterSet::suggestion(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Definition& definition : definitions()) {
    names.push_back(definition.info.name);
    names.insert(names.end(), definition.info.aliases.begin(), definition.info.aliases.end());
  }
  const std::string wanted = folded(name);
  const auto same = std::ranges::find(names, wanted, folded);
  return same != names.end() ? *same : core::nearest_name(name, names);
}

Parameters ParameterSet::resolve(const model_info::ModelInfo& model, std::int64_t vocab_size,
                                 std::int64_t prompt_size) const {
  Requested requested;
  for (const auto& [name, given] : values_) {
    find_definition(name)->read(core::JsonView(given.value, where(given.name)), requested);
  }
  return Resolver(requested, model, vocab_size, prompt_size).resolve();
}

}  // namespace peregrine::generation
