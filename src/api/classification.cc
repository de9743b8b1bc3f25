// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <utility>

#include "api/encoder_dialects.h"
#include "api/encoder_fields.h"
#include "api/json_output.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using configuration::Task;
using core::ErrorKind;

constexpr auto kBodyFields = std::to_array<std::string_view>({"inputs", "parameters", "model", "model_name"});
/// Padding changes nothing here, where there is none.
constexpr auto kParameters =
    std::to_array<std::string_view>({"top_k", "function_to_apply", "return_all_scores", "padding"});

constexpr std::string_view kAllowed =
    "a string, {\"text\", \"text_pair\"}, or a list of strings or of such pairs";

/// How the classes are written.
struct ClassFormat {
  ScoreFunction function = ScoreFunction::kSoftmax;
  std::size_t top = 1;   ///< So many of the best classes of each text.
  bool nested = false;   ///< A list for each text, although it has only one class.
  bool is_list = false;  ///< The inputs are one.
  std::shared_ptr<const EncoderText> encoder;
};

ScoreFunction read_function(const Fields& parameters, const ServedModel& model) {
  static constexpr std::array<std::string_view, 3> kFunctions = {"softmax", "sigmoid", "none"};
  const auto asked = parameters.one_of("function_to_apply", kFunctions);
  if (asked == "softmax") return ScoreFunction::kSoftmax;
  if (asked == "sigmoid") return ScoreFunction::kSigmoid;
  if (asked == "none") return ScoreFunction::kNone;
  const bool several = model.model->limits().labels > 1;
  return model.encoder->class_function.value_or(several ? ScoreFunction::kSoftmax : ScoreFunction::kSigmoid);
}

/// As transformers' pipeline: without top_k each text has its best class; with top_k, null meaning all, a
/// list of classes.
void read_top(const Fields& parameters, const ServedModel& model, ClassFormat& format) {
  const auto labels = static_cast<std::size_t>(model.model->limits().labels);
  if (parameters.boolean("return_all_scores").value_or(false)) {
    format.top = labels;
    format.nested = true;
  }
  if (!parameters.json().contains("top_k")) return;
  const auto top = parameters.integer("top_k", 1, std::numeric_limits<std::int32_t>::max());
  format.top =
      std::min(static_cast<std::size_t>(top.value_or(std::numeric_limits<std::int32_t>::max())), labels);
  format.nested = format.is_list;
}

EncodeInput read_text(const ServedModel& model, const value& found, const std::string& field,
                      const EncodeTextOptions& options) {
  if (found.is_string()) return encode_text(model, found.get_string(), field, options);
  if (!found.is_object()) fail_field(field, "a string or {\"text\", \"text_pair\"}", found);
  const Fields pair(found.get_object(), field);
  const auto text = pair.string("text");
  if (!text) fail_field(field, "a string or {\"text\", \"text_pair\"}", found);
  const auto second = pair.string("text_pair");
  if (!second) return encode_text(model, *text, pair.path("text"), options);
  return encode_text_pair(model, *text, *second, field, options);
}

/// The best classes of one text, best first; of equal ones the first.
void append_classes(std::vector<float>& scores, const ClassFormat& format, std::string& out) {
  if (format.function == ScoreFunction::kSoftmax) softmax(scores);
  if (format.function == ScoreFunction::kSigmoid) std::ranges::transform(scores, scores.begin(), sigmoid);
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), format.top));
  for (std::size_t i = 0; i < order.size(); ++i) {
    out += i > 0 ? ",{\"label\":" : "{\"label\":";
    append_json_string(out, format.encoder->label(order[i]));
    out += ",\"score\":";
    append_json_number(out, scores[order[i]]);
    out += '}';
  }
}

}  // namespace

EncodePlan read_lmi_classification(const boost::json::object& object, const ServedModel& model) {
  require_task(model, Task::kClassify);
  const Fields body(object, "");
  const boost::json::object none;
  const auto* found = body.object("parameters");
  const Fields parameters(found == nullptr ? none : *found, "parameters");
  EncodePlan plan;
  plan.kind = generation::EncodeKind::kClassify;
  const EncodeTextOptions options = read_lmi_text_options(body, parameters, model);

  const value* inputs = body.find("inputs");
  if (inputs == nullptr) {
    throw FieldError(ErrorKind::kInvalidArgument, "inputs",
                     fmt::format("inputs is missing; it must be {}", kAllowed));
  }
  ClassFormat format;
  format.encoder = model.encoder;
  format.is_list = inputs->is_array();
  format.function = read_function(parameters, model);
  read_top(parameters, model, format);
  if (format.is_list) {
    const auto items = texts_of(inputs->get_array(), "inputs");
    for (std::size_t i = 0; i < items.size(); ++i) {
      plan.inputs.push_back(read_text(model, items[i], fmt::format("inputs[{}]", i), options));
    }
  } else {
    if (!inputs->is_string() && !inputs->is_object()) fail_field("inputs", kAllowed, *inputs);
    plan.inputs.push_back(read_text(model, *inputs, "inputs", options));
  }
  log_unknown_members(body, model, kBodyFields);
  log_unknown_members(parameters, model, kParameters);
  plan.write = [format](EncodeAnswer& answer, std::string& out) {
    out += '[';
    for (std::size_t i = 0; i < answer.vectors.size(); ++i) {
      if (i > 0) out += ',';
      if (format.nested) out += '[';
      append_classes(answer.vectors[i], format, out);
      if (format.nested) out += ']';
    }
    out += "]\n";
  };
  return plan;
}

}  // namespace peregrine::api
