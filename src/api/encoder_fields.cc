// SPDX-License-Identifier: Apache-2.0
#include "api/encoder_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace peregrine::api {
namespace {

using boost::json::value;
using core::ErrorKind;

/// What read_text_options reads.
constexpr auto kTextFields =
    std::to_array<std::string_view>({"truncate", "truncation", "truncation_direction", "max_length",
                                     "truncate_prompt_tokens", "add_special_tokens"});
constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();

}  // namespace

EncodeTextOptions read_text_options(const Fields& fields, const ServedModel& model) {
  EncodeTextOptions options;
  for (const std::string_view name : {"truncate", "truncation"}) {
    if (const auto asked = fields.boolean(name)) options.truncate = *asked;
  }
  // Of transformers: with truncation, how long a text may be.
  options.max_tokens = fields.integer("max_length", 1, kMaxInt);
  // Of vLLM: a number asks for truncation; -1 is the model's own length.
  if (const auto keep = fields.integer("truncate_prompt_tokens", -1, longest_text(model))) {
    if (*keep == 0) {
      fail_field(fields.path("truncate_prompt_tokens"), "-1 or an integer from 1",
                 *fields.find("truncate_prompt_tokens"));
    }
    options.truncate = true;
    if (*keep > 0) options.max_tokens = keep;
  }
  static constexpr std::array<std::string_view, 2> kDirections = {"right", "Right"};
  fields.one_of("truncation_direction", kDirections);
  options.add_special = fields.boolean("add_special_tokens").value_or(true);
  return options;
}

EncodeTextOptions read_lmi_text_options(const Fields& body, const Fields& parameters,
                                        const ServedModel& model) {
  EncodeTextOptions options = read_text_options(parameters, model);
  const EncodeTextOptions beside = read_text_options(body, model);
  if (beside.truncate) options.truncate = beside.truncate;
  if (beside.max_tokens) options.max_tokens = beside.max_tokens;
  options.add_special = options.add_special && beside.add_special;
  return options;
}

std::string read_prompt(const Fields& fields, const ServedModel& model) {
  const auto name = fields.string("prompt_name");
  if (!name) return model.encoder->default_prompt;
  const auto found = model.encoder->prompts.find(*name);
  if (found == model.encoder->prompts.end()) {
    std::vector<std::string_view> names;
    for (const auto& [known, text] : model.encoder->prompts) names.push_back(known);
    if (names.empty())
      fail_field(fields.path("prompt_name"), "left out: the model has no prompts",
                 *fields.find("prompt_name"));
    fields.one_of("prompt_name", names);
  }
  if (!model.encoder->pools_prompt && !found->second.empty()) {
    throw FieldError(ErrorKind::kUnsupported, fields.path("prompt_name"),
                     fmt::format("{} is not supported: the model's pooling leaves prompts out; leave it out",
                                 fields.path("prompt_name")));
  }
  return found->second;
}

void read_embedding_options(const Fields& fields, const ServedModel& model, EncodePlan& plan) {
  plan.kind = generation::EncodeKind::kEmbed;
  plan.normalize = fields.boolean("normalize").value_or(model.encoder->normalize);
  static constexpr std::array<std::string_view, 4> kPoolings = {"mean", "cls", "lasttoken", "last"};
  const auto pooling = fields.one_of("pooling", kPoolings);
  plan.pooling = pooling ? *pooling_named(*pooling) : model.encoder->pooling;
}

std::span<const value> texts_of(const boost::json::array& list, const std::string& field) {
  if (list.empty() || list.size() > kMostTexts) {
    throw FieldError(
        ErrorKind::kInvalidArgument, field,
        fmt::format("{} must be a list of 1 to {} texts, found {}", field, kMostTexts, list.size()));
  }
  return {list.begin(), list.end()};
}

void log_unknown_members(const Fields& fields, const ServedModel& model,
                         std::span<const std::string_view> known) {
  for (const auto& member : fields.json()) {
    const std::string_view name = member.key();
    const bool is_known = std::ranges::find(known, name) != known.end() ||
                          std::ranges::find(kTextFields, name) != kTextFields.end();
    if (!is_known) log_unknown_field(model, fields.path(name));
  }
}

float sigmoid(float score) { return 1.0f / (1.0f + std::exp(-score)); }

void softmax(std::span<float> scores) {
  const float highest = *std::ranges::max_element(scores);
  float sum = 0;
  for (float& score : scores) sum += score = std::exp(score - highest);
  for (float& score : scores) score /= sum;
}

}  // namespace peregrine::api
