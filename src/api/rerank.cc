// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
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

constexpr auto kLmiFields = std::to_array<std::string_view>({"inputs", "parameters", "model", "model_name"});
constexpr auto kLmiParameters = std::to_array<std::string_view>({"raw_scores"});
constexpr auto kRerankFields = std::to_array<std::string_view>(
    {"query", "documents", "texts", "top_n", "return_documents", "return_text", "raw_scores", "model",
     "model_name", "user", "priority", "request_id"});

float apply(ScoreFunction function, float score) {
  return function == ScoreFunction::kSigmoid ? sigmoid(score) : score;
}

/// The documents of a rerank request, in their order, and how the answer is written.
struct Ranking {
  ScoreFunction function = ScoreFunction::kSigmoid;
  bool is_tei = false;
  std::vector<std::string> documents;  ///< Empty: they do not come back.
  std::size_t top = 0;
  std::string id;
  std::string model;
};

std::vector<std::size_t> ranked(const std::vector<std::vector<float>>& scores, std::size_t top) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a][0] > scores[b][0]; });
  order.resize(std::min(order.size(), top));
  return order;
}

/// [{"index", "text"?, "score"}, ...]
void write_tei(const Ranking& ranking, const EncodeAnswer& answer, std::string& out) {
  out += '[';
  bool first = true;
  for (const std::size_t i : ranked(answer.vectors, ranking.top)) {
    fmt::format_to(std::back_inserter(out), "{}{{\"index\":{}", std::exchange(first, false) ? "" : ",", i);
    if (!ranking.documents.empty()) {
      out += ",\"text\":";
      append_json_string(out, ranking.documents[i]);
    }
    out += ",\"score\":";
    append_json_number(out, apply(ranking.function, answer.vectors[i][0]));
    out += '}';
  }
  out += "]\n";
}

/// {"id", "model", "usage", "results": [{"index", "document"?, "relevance_score"}, ...]}
void write_results(const Ranking& ranking, const EncodeAnswer& answer, std::string& out) {
  out += "{\"id\":";
  append_json_string(out, ranking.id);
  out += ",\"model\":";
  append_json_string(out, ranking.model);
  fmt::format_to(std::back_inserter(out),
                 ",\"usage\":{{\"prompt_tokens\":{0},\"total_tokens\":{0}}},\"results\":[", answer.tokens);
  bool first = true;
  for (const std::size_t i : ranked(answer.vectors, ranking.top)) {
    fmt::format_to(std::back_inserter(out), "{}{{\"index\":{}", std::exchange(first, false) ? "" : ",", i);
    if (!ranking.documents.empty()) {
      out += ",\"document\":{\"text\":";
      append_json_string(out, ranking.documents[i]);
      out += '}';
    }
    out += ",\"relevance_score\":";
    append_json_number(out, apply(ranking.function, answer.vectors[i][0]));
    out += '}';
  }
  out += "]}\n";
}

/// A document: a text, or Cohere's {"text"}.
std::string_view document_text(const value& found, const std::string& field) {
  if (found.is_string()) return found.get_string();
  if (found.is_object()) {
    if (const auto text = Fields(found.get_object(), field).string("text")) return *text;
  }
  fail_field(field, "a string or {\"text\"}", found);
}

std::string_view required_string(const Fields& fields, std::string_view name) {
  if (const auto found = fields.string(name)) return *found;
  throw FieldError(ErrorKind::kInvalidArgument, fields.path(name),
                   fmt::format("{} is missing; it must be a string", fields.path(name)));
}

const boost::json::array& documents_of(const Fields& body, bool is_tei) {
  const std::string_view name = is_tei ? "texts" : "documents";
  const value* found = body.find(name);
  if (found == nullptr) {
    throw FieldError(ErrorKind::kInvalidArgument, std::string(name),
                     fmt::format("{} is missing; it must be a list of texts", name));
  }
  if (!found->is_array()) fail_field(std::string(name), "a list of texts", *found);
  return found->get_array();
}

}  // namespace

bool has_pairs(const boost::json::object& body) {
  const value* inputs = body.if_contains("inputs");
  if (inputs != nullptr && inputs->is_array() && !inputs->get_array().empty()) {
    inputs = &inputs->get_array().front();
  }
  return inputs != nullptr && inputs->is_object() && inputs->get_object().contains("key");
}

EncodePlan read_lmi_pairs(const boost::json::object& object, const ServedModel& model) {
  require_task(model, Task::kRerank);
  const Fields body(object, "");
  const boost::json::object none;
  const auto* found = body.object("parameters");
  const Fields parameters(found == nullptr ? none : *found, "parameters");
  EncodePlan plan;
  plan.kind = generation::EncodeKind::kClassify;
  const EncodeTextOptions options = read_lmi_text_options(body, parameters, model);
  const bool raw = parameters.boolean("raw_scores").value_or(false);

  const auto add = [&](const value& item, const std::string& field) {
    if (!item.is_object()) fail_field(field, "{\"key\", \"value\"}, two texts", item);
    const Fields pair(item.get_object(), field);
    plan.inputs.push_back(encode_text_pair(model, required_string(pair, "key"),
                                           required_string(pair, "value"), field, options));
  };
  const value* inputs = body.find("inputs");
  if (inputs == nullptr || (!inputs->is_array() && !inputs->is_object())) {
    fail_field("inputs", "a list of {\"key\", \"value\"}", inputs == nullptr ? value() : *inputs);
  }
  if (inputs->is_object()) {
    add(*inputs, "inputs");
  } else {
    const auto items = texts_of(inputs->get_array(), "inputs");
    for (std::size_t i = 0; i < items.size(); ++i) add(items[i], fmt::format("inputs[{}]", i));
  }
  log_unknown_members(body, model, kLmiFields);
  log_unknown_members(parameters, model, kLmiParameters);
  plan.write = [function = raw ? ScoreFunction::kNone : model.encoder->pair_function](EncodeAnswer& answer,
                                                                                      std::string& out) {
    out += '[';
    for (std::size_t i = 0; i < answer.vectors.size(); ++i) {
      if (i > 0) out += ',';
      append_json_number(out, apply(function, answer.vectors[i][0]));
    }
    out += "]\n";
  };
  return plan;
}

EncodePlan read_rerank(const boost::json::object& object, const ServedModel& model,
                       const std::string& request_id) {
  require_task(model, Task::kRerank);
  const Fields body(object, "");
  EncodePlan plan;
  plan.kind = generation::EncodeKind::kClassify;
  Ranking ranking;
  ranking.is_tei = body.find("texts") != nullptr && body.find("documents") == nullptr;
  ranking.id = fmt::format("rerank-{}", request_id);
  ranking.model = model.model->name();
  ranking.function = ranking.is_tei ? ScoreFunction::kSigmoid : model.encoder->pair_function;
  if (body.boolean("raw_scores").value_or(false)) ranking.function = ScoreFunction::kNone;
  const bool documents_back = ranking.is_tei ? body.boolean("return_text").value_or(false)
                                             : body.boolean("return_documents").value_or(true);
  for (const std::string_view name : {"model", "model_name", "user", "request_id"}) body.string(name);
  body.integer("priority", std::numeric_limits<std::int64_t>::min(),
               std::numeric_limits<std::int64_t>::max());
  const EncodeTextOptions options = read_text_options(body, model);
  const std::string_view query = required_string(body, "query");

  const std::string list = ranking.is_tei ? "texts" : "documents";
  const auto items = texts_of(documents_of(body, ranking.is_tei), list);
  // vLLM's default, 0, is all of them.
  const auto top = body.integer("top_n", 0, std::numeric_limits<std::int32_t>::max()).value_or(0);
  ranking.top = top == 0 ? items.size() : static_cast<std::size_t>(top);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string field = fmt::format("{}[{}]", list, i);
    const std::string_view text = document_text(items[i], field);
    plan.inputs.push_back(encode_text_pair(model, query, text, field, options));
    if (documents_back) ranking.documents.emplace_back(text);
  }
  log_unknown_members(body, model, kRerankFields);
  plan.write = [ranking = std::move(ranking)](EncodeAnswer& answer, std::string& out) {
    (ranking.is_tei ? write_tei : write_results)(ranking, answer, out);
  };
  return plan;
}

}  // namespace peregrine::api
