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

/// A number in [low, high].
Definition number(std::string_view name, double low, double high, std::optional<double> Requested::*field,
                  std::string_view meaning) {
  const std::string range = fmt::format("[{:g}, {:g}]", low, high);
  return {{name, {}, "number", range, meaning},
          [low, high, range, field](const JsonView& view, Requested& requested) {
            const std::string expected = "a number in " + range;
            if (!view.is_number()) view.fail_expected(expected);
            const auto value = view.value().to_number<double>();
            if (!(value >= low && value <= high)) view.fail_expected(expected);
            requested.*field = value;
          }};
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

Definition eos_token_id() {
  return {{"eos_token_id",
           {},
           "token id or list of token ids",
           fmt::format("at most {} ids", kMaxEndTokens),
           "Tokens that end a sequence, in place of the model's own."},
          [](const JsonView& view, Requested& requested) {
            if (view.is_array()) {
              requested.eos_token_id = read_tokens(view, kMaxEndTokens);
            } else {
              requested.eos_token_id = {static_cast<std::int32_t>(
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

/// A parameter that is read and changes nothing, as long as there is no beam search.
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

bool is_number(const boost::json::value& value) { return value.is_number(); }
bool is_bool(const boost::json::value& value) { return value.is_bool(); }
bool is_integer(const boost::json::value& value) { return as_integer(value).has_value(); }
bool is_early_stopping(const boost::json::value& value) {
  return value.is_bool() || (value.is_string() && value.get_string() == "never");
}

std::vector<Definition> make_definitions() {
  using R = Requested;
  return {
      integer("max_new_tokens", {"max_tokens"}, 1, kMaxInt, &R::max_new_tokens, "Longest output, in tokens."),
      integer("max_length", {}, 1, kMaxInt, &R::max_length,
              "Longest prompt and output together; max_new_tokens goes first where both are given."),
      integer("min_new_tokens", {"min_tokens"}, 0, kMaxInt, &R::min_new_tokens,
              "No end or stop token is drawn before the output has this many tokens."),
      integer("min_length", {}, 0, kMaxInt, &R::min_length, "The same for prompt and output together."),
      boolean("do_sample", {}, &R::do_sample,
              "Sampling (true) or the most likely token (false). Where neither request nor model says: "
              "sampling if "
              "temperature is given."),
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
      seed(),
      number("repetition_penalty", 0.001, 1000, &R::repetition_penalty,
             "Makes tokens of prompt and output less likely (above 1) or more (below)."),
      number("presence_penalty", -2, 2, &R::presence_penalty,
             "Taken from the logit of each token of the output."),
      number("frequency_penalty", -2, 2, &R::frequency_penalty,
             "Taken from the logit of a token for each time it is in the output."),
      integer("no_repeat_ngram_size", {}, 0, 1024, &R::no_repeat_ngram_size,
              "No sequence of this many tokens appears twice; 0: off."),
      bad_words_ids(),
      tokens("suppress_tokens", kMaxSuppressed, &R::suppress_tokens, "Tokens that are never drawn."),
      eos_token_id(),
      boolean("ignore_eos_token", {"ignore_eos"}, &R::ignore_eos_token, "No end token ends a sequence."),
      tokens("stop_token_ids", kMaxEndTokens, &R::stop_token_ids,
             "Further tokens that end a sequence, with finish reason stop_sequence."),
      integer("n", {"num_return_sequences"}, 1, 128, &R::n, "Sequences sampled from one prompt."),
      integer("best_of", {}, 1, 128, &R::best_of,
              "Means n where n is not given; choosing among more sequences than n is not supported yet."),
      integer("top_n_tokens", {"logprobs", "top_logprobs"}, 0, 100, &R::top_n_tokens,
              "Most likely tokens reported for each position."),
      integer("num_beams", {}, 1, kMaxInt, &R::num_beams, "Only 1 (no beam search) is supported yet."),
      without_effect("length_penalty", "number", "a number", is_number, "No effect without beam search."),
      without_effect("early_stopping", "boolean or string", "true, false or \"never\"", is_early_stopping,
                     "No effect without beam search."),
      without_effect("pad_token_id", "integer", "an integer", is_integer, "No effect: nothing is padded."),
      without_effect("use_cache", "boolean", "true or false", is_bool,
                     "No effect: the cache is always used."),
      without_effect("renormalize_logits", "boolean", "true or false", is_bool,
                     "No effect on what is drawn."),
      without_effect("remove_invalid_values", "boolean", "true or false", is_bool,
                     "No effect: invalid logits are never drawn."),
      only_off("num_beam_groups", "1"),
      only_off("diversity_penalty", "0"),
      only_off("penalty_alpha", "0"),
      only_off("epsilon_cutoff", "0"),
      only_off("eta_cutoff", "0"),
      only_off("encoder_repetition_penalty", "1"),
      only_off("encoder_no_repeat_ngram_size", "0"),
      only_off("guidance_scale", "1"),
      only_off("begin_suppress_tokens", "[]"),
      only_off("sequence_bias", "{}"),
      only_off("logit_bias", "{}"),
      only_off("force_words_ids", "[]"),
      only_off("forced_bos_token_id", "null"),
      only_off("forced_eos_token_id", "null"),
      only_off("exponential_decay_length_penalty", "null"),
  };
}

}  // namespace

const std::vector<Definition>& definitions() {
  static const std::vector<Definition> kDefinitions = make_definitions();
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
