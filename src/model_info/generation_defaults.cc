// SPDX-License-Identifier: Apache-2.0
#include "model_info/generation_defaults.h"

#include <fmt/format.h>

#include <limits>
#include <string_view>

namespace peregrine::model_info {
namespace {

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

std::optional<bool> flag(const core::JsonView& config, std::string_view key) {
  const auto value = config.find(key);
  if (!value) return std::nullopt;
  return value->as_bool();
}

std::optional<std::int64_t> integer(const core::JsonView& config, std::string_view key, std::int64_t low) {
  const auto value = config.find(key);
  if (!value) return std::nullopt;
  return value->as_int(low, kMaxInt32);
}

std::optional<double> number(const core::JsonView& config, std::string_view key) {
  const auto value = config.find(key);
  if (!value) return std::nullopt;
  return value->as_number();
}

std::optional<double> fraction(const core::JsonView& config, std::string_view key) {
  const auto out = number(config, key);
  if (out && (*out < 0.0 || *out > 1.0)) config.at(key).fail_expected("a number from 0 to 1");
  return out;
}

std::optional<double> not_negative(const core::JsonView& config, std::string_view key) {
  const auto out = number(config, key);
  if (out && *out < 0.0) config.at(key).fail_expected("a number that is not negative");
  return out;
}

std::optional<double> positive(const core::JsonView& config, std::string_view key) {
  const auto out = number(config, key);
  if (out && *out <= 0.0) config.at(key).fail_expected("a number above 0");
  return out;
}

std::optional<std::vector<std::vector<std::int32_t>>> bad_words(const core::JsonView& config) {
  const auto value = config.find("bad_words_ids");
  if (!value) return std::nullopt;
  if (!value->is_array()) value->fail_expected("a list of lists of token ids");
  std::vector<std::vector<std::int32_t>> out;
  for (const auto& item : value->value().get_array()) {
    const core::JsonView word(item, fmt::format("{}[{}]", value->where(), out.size()));
    out.push_back(token_ids(word));
    if (out.back().empty()) word.fail_expected("a list of at least one token id");
  }
  return out;
}

std::optional<EarlyStopping> early_stopping(const core::JsonView& config) {
  const auto value = config.find("early_stopping");
  if (!value) return std::nullopt;
  if (value->is_string() && value->as_string() == "never") return EarlyStopping::kNever;
  if (!value->is_bool()) value->fail_expected("true, false or \"never\"");
  return value->as_bool() ? EarlyStopping::kTrue : EarlyStopping::kFalse;
}

}  // namespace

std::int32_t token_id(const core::JsonView& value) {
  return static_cast<std::int32_t>(value.as_int(0, kMaxInt32));
}

std::vector<std::int32_t> token_ids(const core::JsonView& list) {
  if (!list.is_array()) list.fail_expected("a list of token ids");
  // Not JsonView::items(): its place names would take many times the memory of a list of a million ids.
  std::vector<std::int32_t> out;
  for (const auto& item : list.value().get_array()) {
    const std::int64_t* id = item.if_int64();
    if (id == nullptr || *id < 0 || *id > kMaxInt32) {
      out.push_back(token_id({item, fmt::format("{}[{}]", list.where(), out.size())}));  // throws
    } else {
      out.push_back(static_cast<std::int32_t>(*id));
    }
  }
  return out;
}

GenerationDefaults parse_generation_defaults(const core::JsonView& config) {
  GenerationDefaults out;
  out.do_sample = flag(config, "do_sample");
  out.temperature = not_negative(config, "temperature");
  out.top_k = integer(config, "top_k", 0);
  out.top_p = fraction(config, "top_p");
  out.min_p = fraction(config, "min_p");
  out.typical_p = fraction(config, "typical_p");
  out.repetition_penalty = positive(config, "repetition_penalty");
  out.max_new_tokens = integer(config, "max_new_tokens", 1);
  out.max_length = integer(config, "max_length", 1);
  out.min_new_tokens = integer(config, "min_new_tokens", 0);
  out.min_length = integer(config, "min_length", 0);
  out.no_repeat_ngram_size = integer(config, "no_repeat_ngram_size", 0);
  if (const auto list = config.find("suppress_tokens")) out.suppress_tokens = token_ids(*list);
  out.bad_words_ids = bad_words(config);
  out.num_beams = integer(config, "num_beams", 1);
  out.num_return_sequences = integer(config, "num_return_sequences", 1);
  out.length_penalty = number(config, "length_penalty");
  out.early_stopping = early_stopping(config);
  return out;
}

}  // namespace peregrine::model_info
