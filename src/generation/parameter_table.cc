// SPDX-License-Identifier: Apache-2.0
#include "generation/parameter_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "core/error.h"

namespace peregrine::generation {
namespace {

using core::JsonView;
using Aliases = std::vector<std::string_view>;

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();
// Lists are copied for each sequence and looked through for each token, so they are bounded.
constexpr std::size_t kMaxBadWords = 1024;
constexpr std::size_t kMaxBadWordSize = 64;
constexpr std::size_t kMaxSuppressed = 65536;
constexpr std::size_t kMaxEndTokens = 1024;
constexpr std::int64_t kMaxSequences = 128;

/// The integer that a value stands for: 4, or 4.0 as some clients write it.
std::optional<std::int64_t> as_integer(const boost::json::value& value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53: doubles beyond it no longer tell integers apart.
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return std::nullopt;
  const double number = value.get_double();
  if (!(std::abs(number) <= kExact) || number != std::trunc(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

std::int64_t read_integer(const JsonView& view, std::int64_t low, std::int64_t high,
                          std::string_view expected) {
  const auto number = as_integer(view.value());
  if (!number || *number < low || *number > high) view.fail_expected(expected);
  return *number;
}

Requested::Tokens read_tokens(const JsonView& view, std::size_t most) {
  const std::string expected = fmt::format("a list of at most {} token ids", most);
  if (!view.is_array() || view.value().get_array().size() > most) view.fail_expected(expected);
  Requested::Tokens tokens;
  tokens.reserve(view.value().get_array().size());
  for (const JsonView& item : view.items()) {
    tokens.push_back(
        static_cast<std::int32_t>(read_integer(item, 0, kMaxInt, "a token id (0 to 2147483647)")));
  }
  return tokens;
}

Definition integer(std::string_view name, Aliases aliases, std::int64_t low, std::int64_t high,
                   std::optional<std::int64_t> Requested::*field, std::string_view meaning) {
  ParameterInfo info{name, std::move(aliases), "integer", fmt::format("{} to {}", low, high), meaning};
  return {std::move(info), [low, high, field](const JsonView& view, Requested& requested) {
            requested.*field =
                read_integer(view, low, high, fmt::format("an integer from {} to {}", low, high));
          }};
}

double read_number(const JsonView& view, double low, double high) {
  const auto expected = [&] { return fmt::format("a number in [{:g}, {:g}]", low, high); };
  if (!view.is_number()) view.fail_expected(expected());
  const auto value = view.value().to_number<double>();
  if (!(value >= low && value <= high)) view.fail_expected(expected());
  return value;
}

/// A number in [low, high].
Definition number(std::string_view name, Aliases aliases, double low, double high,
                  std::optional<double> Requested::*field, std::string_view meaning) {
  return {{name, std::move(aliases), "number", fmt::format("[{:g}, {:g}]", low, high), meaning},
          [low, high, field](const JsonView& view, Requested& requested) {
            requested.*field = read_number(view, low, high);
          }};
}

Definition number(std::string_view name, double low, double high, std::optional<double> Requested::*field,
                  std::string_view meaning) {
  return number(name, {}, low, high, field, meaning);
}

Definition boolean(std::string_view name, Aliases aliases, std::optional<bool> Requested::*field,
                   std::string_view meaning) {
  return {{name, std::move(aliases), "boolean", "true or false", meaning},
          [field](const JsonView& view, Requested& requested) { requested.*field = view.as_bool(); }};
}

Definition tokens(std::string_view name, std::size_t most, std::optional<Requested::Tokens> Requested::*field,
                  std::string_view meaning) {
  return {{name, {}, "list of token ids", fmt::format("at most {} ids", most), meaning},
          [most, field](const JsonView& view, Requested& requested) {
            requested.*field = read_tokens(view, most);
          }};
}

Definition seed() {
  return {{"seed",
           {"random_seed"},
           "integer",
           "0 to 18446744073709551615",
           "Of the random numbers that sampling draws; a fresh one for each request where it is not given."},
          [](const JsonView& view, Requested& requested) {
            if (view.value().is_uint64()) {
              requested.seed = view.value().get_uint64();
            } else {
              requested.seed =
                  static_cast<std::uint64_t>(read_integer(view, 0, std::numeric_limits<std::int64_t>::max(),
                                                          "an integer from 0 to 18446744073709551615"));
            }
          }};
}

/// One token id.
Definition token(std::string_view name, std::optional<Requested::Tokens> Requested::*field,
                 std::string_view meaning) {
  return {{name, {}, "token id", "0 to 2147483647", meaning},
          [field](const JsonView& view, Requested& requested) {
            requested.*field = Requested::Tokens{
                static_cast<std::int32_t>(read_integer(view, 0, kMaxInt, "a token id (0 to 2147483647)"))};
          }};
}

/// Token ids that end a sequence, or one of them.
Definition end_tokens(std::string_view name, std::optional<Requested::Tokens> Requested::*field,
                      std::string_view meaning) {
  return {{name, {}, "token id or list of token ids", fmt::format("at most {} ids", kMaxEndTokens), meaning},
          [field](const JsonView& view, Requested& requested) {
            if (view.is_array()) {
              requested.*field = read_tokens(view, kMaxEndTokens);
            } else {
              requested.*field = Requested::Tokens{static_cast<std::int32_t>(
                  read_integer(view, 0, kMaxInt, "a token id (0 to 2147483647) or a list of them"))};
            }
          }};
}

Definition bad_words_ids() {
  return {{"bad_words_ids",
           {},
           "list of lists of token ids",
           fmt::format("at most {} lists of 1 to {} ids", kMaxBadWords, kMaxBadWordSize),
           "Sequences of tokens that may not appear in the output."},
          [](const JsonView& view, Requested& requested) {
            if (!view.is_array() || view.value().get_array().size() > kMaxBadWords) {
              view.fail_expected(fmt::format("a list of at most {} lists of token ids", kMaxBadWords));
            }
            std::vector<Requested::Tokens> words;
            for (const JsonView& item : view.items()) {
              words.push_back(read_tokens(item, kMaxBadWordSize));
              if (words.back().empty()) item.fail_expected("a list of token ids that is not empty");
            }
            requested.bad_words_ids = std::move(words);
          }};
}

Definition sequence_bias() {
  return {{"sequence_bias",
           {},
           "list of [list of token ids, number] pairs",
           fmt::format("at most {} pairs of 1 to {} ids and a number in [-1e+06, 1e+06]", kMaxBadWords,
                       kMaxBadWordSize),
           "Added to the logit of the last token of a sequence where the tokens before it stand."},
          [](const JsonView& view, Requested& requested) {
            if (view.value().is_object() && view.value().get_object().empty())
              return;  // Its default elsewhere.
            if (!view.is_array() || view.value().get_array().size() > kMaxBadWords) {
              view.fail_expected(fmt::format("a list of at most {} [token ids, bias] pairs", kMaxBadWords));
            }
            requested.sequence_bias.clear();
            for (const JsonView& item : view.items()) {
              if (!item.is_array() || item.value().get_array().size() != 2) {
                item.fail_expected("a pair of a list of token ids and a number");
              }
              const auto parts = item.items();
              SequenceBias bias{read_tokens(parts[0], kMaxBadWordSize),
                                static_cast<float>(read_number(parts[1], -1e6, 1e6))};
              if (bias.ids.empty()) item.fail_expected("a list of token ids that is not empty, and a number");
              requested.sequence_bias.push_back(std::move(bias));
            }
          }};
}

Definition exponential_decay() {
  return {{"exponential_decay_length_penalty",
           {},
           "[integer, number] pair",
           "[0 to 2147483647, a number in [0.001, 1000]]",
           "Makes end tokens more likely by the number's powers, once the output has more tokens than the "
           "integer."},
          [](const JsonView& view, Requested& requested) {
            if (!view.is_array() || view.value().get_array().size() != 2) {
              view.fail_expected("a pair of an integer (tokens of the output) and a number (factor)");
            }
            const auto parts = view.items();
            const std::int64_t start = read_integer(parts[0], 0, kMaxInt, "an integer from 0 to 2147483647");
            requested.exponential_decay_length_penalty = {
                static_cast<std::int32_t>(start), static_cast<float>(read_number(parts[1], 0.001, 1000))};
          }};
}

Definition early_stopping() {
  constexpr std::string_view kAllowed = "true, false or \"never\"";
  return {{"early_stopping",
           {},
           "boolean or string",
           std::string(kAllowed),
           "Beams end with the num_beams-th hypothesis (true), when a better one is unlikely (false), or "
           "impossible."},
          [kAllowed](const JsonView& view, Requested& requested) {
            if (view.is_bool()) {
              requested.early_stopping = view.as_bool() ? EarlyStopping::kTrue : EarlyStopping::kFalse;
            } else if (view.is_string() && view.as_string() == "never") {
              requested.early_stopping = EarlyStopping::kNever;
            } else {
              view.fail_expected(kAllowed);
            }
          }};
}

/// A parameter that is read and changes nothing.
Definition without_effect(std::string_view name, std::string_view type, std::string_view allowed,
                          bool (*valid)(const boost::json::value&), std::string_view meaning) {
  return {{name, {}, type, std::string(allowed), meaning},
          [allowed, valid](const JsonView& view, Requested&) {
            if (!valid(view.value())) view.fail_expected(allowed);
          }};
}

/// A known parameter of Hugging Face's or OpenAI's that would change the result and does not exist here: only
/// the value that turns it off is accepted.
Definition only_off(std::string_view name, std::string_view off) {
  return {{name,
           {},
           "not supported",
           fmt::format("only {} (off)", off),
           "Accepted so that clients may name its default."},
          [off](const JsonView& view, Requested&) {
            const auto& value = view.value();
            const bool is_off = off == "[]" ? value.is_array() && value.get_array().empty()
                                : off == "{}"
                                    ? value.is_object() && value.get_object().empty()
                                    : as_integer(value) && std::to_string(*as_integer(value)) == off;
            if (is_off) return;
            core::fail(core::ErrorKind::kUnsupported, "{} is not supported yet: only {} (off) is accepted",
                       view.where(), off);
          }};
}

bool is_bool(const boost::json::value& value) { return value.is_bool(); }
bool is_integer(const boost::json::value& value) { return as_integer(value).has_value(); }

using R = Requested;

std::vector<Definition> lengths() {
  return {
      integer("max_new_tokens", {"max_tokens", "max_seq_len"}, 1, kMaxInt, &R::max_new_tokens,
              "Longest output, in tokens."),
      integer("max_length", {}, 1, kMaxInt, &R::max_length,
              "Longest prompt and output together; max_new_tokens goes first where both are given."),
      integer("min_new_tokens", {"min_tokens"}, 0, kMaxInt, &R::min_new_tokens,
              "No end or stop token is drawn before the output has this many tokens."),
      integer("min_length", {}, 0, kMaxInt, &R::min_length, "The same for prompt and output together."),
  };
}

std::vector<Definition> sampling() {
  return {
      boolean("do_sample", {}, &R::do_sample,
              "Sampling (true) or the most likely token (false). Where neither request nor model says: "
              "sampling if temperature is given. Not with beams."),
      number("temperature", 0, 1e6, &R::temperature,
             "What logits are divided by; 0 takes the most likely token."),
      integer("top_k", {}, -1, kMaxInt, &R::top_k,
              "Samples from the k most likely tokens; 0 or -1: from all."),
      number(
          "top_p", 0, 1, &R::top_p,
          "Samples from the fewest tokens that together have this probability, at least one; 1: from all."),
      number("min_p", 0, 1, &R::min_p,
             "Samples from tokens at least this likely in relation to the most likely; 0: from all."),
      number("typical_p", 0, 1, &R::typical_p,
             "Samples from the most typical tokens that together have this probability; 1: from all."),
      number("epsilon_cutoff", 0, 1, &R::epsilon_cutoff,
             "Samples from tokens of at least this probability; 0 or 1: from all."),
      number("eta_cutoff", 0, 1, &R::eta_cutoff,
             "The same with a bound that falls with the entropy (eta sampling); 0 or 1: from all."),
      seed(),
  };
}

std::vector<Definition> processors() {
  return {
      number("repetition_penalty", 0.001, 1000, &R::repetition_penalty,
             "Makes tokens of prompt and output less likely (above 1) or more (below)."),
      number("presence_penalty", -2, 2, &R::presence_penalty,
             "Taken from the logit of each token of the output."),
      number("frequency_penalty", -2, 2, &R::frequency_penalty,
             "Taken from the logit of a token for each time it is in the output."),
      number("encoder_repetition_penalty", 0.001, 1000, &R::encoder_repetition_penalty,
             "Makes tokens of the encoder's text (without an encoder: of the prompt) more likely (above 1)."),
      integer("no_repeat_ngram_size", {}, 0, 1024, &R::no_repeat_ngram_size,
              "No sequence of this many tokens appears twice; 0: off."),
      integer("encoder_no_repeat_ngram_size", {}, 0, 1024, &R::encoder_no_repeat_ngram_size,
              "No sequence of this many tokens of the encoder's text (or prompt) appears again; 0: off."),
      sequence_bias(),
      bad_words_ids(),
      tokens("suppress_tokens", kMaxSuppressed, &R::suppress_tokens, "Tokens that are never drawn."),
      tokens("begin_suppress_tokens", kMaxSuppressed, &R::begin_suppress_tokens,
             "Tokens that are not drawn first."),
      token("forced_bos_token_id", &R::forced_bos_token_id,
            "Drawn first, where the prompt is one token (the start token of an encoder-decoder model)."),
      end_tokens("forced_eos_token_id", &R::forced_eos_token_id,
                 "Drawn (one of them) as the last token of the longest output."),
      exponential_decay(),
      boolean("renormalize_logits", {}, &R::renormalize_logits,
              "Scores of beams are sums of probabilities made anew after all the restrictions."),
  };
}

std::vector<Definition> ends_and_sequences() {
  return {
      end_tokens("eos_token_id", &R::eos_token_id,
                 "Tokens that end a sequence, in place of the model's own."),
      boolean("ignore_eos_token", {"ignore_eos"}, &R::ignore_eos_token, "No end token ends a sequence."),
      tokens("stop_token_ids", kMaxEndTokens, &R::stop_token_ids,
             "Further tokens that end a sequence, with finish reason stop_sequence."),
      integer("n", {"num_return_sequences"}, 1, kMaxSequences, &R::n,
              "Sequences returned for one prompt: sampled, or the best of num_beams."),
      integer(
          "best_of", {}, 1, kMaxSequences, &R::best_of,
          "Sequences sampled, of which the n most likely per token are returned; n where that is not given."),
      integer("top_n_tokens", {"logprobs", "top_logprobs"}, 0, 100, &R::top_n_tokens,
              "Most likely tokens reported for each position."),
      integer("prompt_logprobs", {}, 0, 100, &R::prompt_logprobs,
              "Reports the prompt's log-probabilities, with this many of the most likely tokens."),
  };
}

std::vector<Definition> beams() {
  return {
      integer("num_beams", {"beam_width"}, 1, kMaxSequences, &R::num_beams,
              "Beam search with so many beams, without sampling; 1: none."),
      integer("num_beam_groups", {}, 1, kMaxSequences, &R::num_beam_groups,
              "Groups of beams that are kept diverse; divides num_beams."),
      number("diversity_penalty", 0, 100, &R::diversity_penalty,
             "Taken from the scores of tokens that earlier groups of beams chose at the same place."),
      number(
          "beam_search_diversity_rate", 0, 100, &R::beam_search_diversity_rate,
          "A diversity_penalty that makes each beam a group of its own, where num_beam_groups is not given."),
      number("length_penalty", {"len_penalty"}, -10, 10, &R::length_penalty,
             "A beam's score is divided by its length to this power: above 0 favours longer ones."),
      early_stopping(),
  };
}

std::vector<Definition> without_use() {
  return {
      without_effect("pad_token_id", "integer", "an integer", is_integer, "No effect: nothing is padded."),
      without_effect("use_cache", "boolean", "true or false", is_bool,
                     "No effect: the cache is always used."),
      without_effect("remove_invalid_values", "boolean", "true or false", is_bool,
                     "No effect: invalid logits are never drawn."),
      only_off("penalty_alpha", "0"),
      only_off("guidance_scale", "1"),
      only_off("logit_bias", "{}"),
      only_off("force_words_ids", "[]"),
  };
}

}  // namespace

const std::vector<Definition>& definitions() {
  static const std::vector<Definition> kDefinitions = [] {
    std::vector<Definition> all;
    for (auto* part : {lengths, sampling, processors, ends_and_sequences, beams, without_use}) {
      for (Definition& definition : part()) all.push_back(std::move(definition));
    }
    return all;
  }();
  return kDefinitions;
}

const Definition* find_definition(std::string_view name) {
  for (const Definition& definition : definitions()) {
    if (definition.info.name == name ||
        std::ranges::find(definition.info.aliases, name) != definition.info.aliases.end()) {
      return &definition;
    }
  }
  return nullptr;
}

}  // namespace peregrine::generation
