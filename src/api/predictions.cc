// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "api/dialects.h"
#include "api/json_fields.h"
#include "api/prediction_writer.h"

namespace peregrine::api {
namespace {

using boost::json::object;
using boost::json::value;
using configuration::OutputFormatter;
using core::ErrorKind;

/// Fields of the body beside inputs, parameters and stream that are read elsewhere or mean nothing.
constexpr std::array<std::string_view, 4> kOtherFields = {"model", "model_name", "prompt", "messages"};

/// What would change the answer and does not exist here.
struct Refused {
  std::string_view name;
  std::string_view why;
};
constexpr std::array<Refused, 14> kRefused = {{
    {"decoder_input_details", "the tokens of the prompt are not reported"},
    {"prompt_logprobs", "the tokens of the prompt are not reported"},
    {"use_beam_search", "there is no beam search"},
    {"bad_sequences", "give token ids in bad_words_ids"},
    {"bad_words", "give token ids in bad_words_ids"},
    {"watermark", "text is not marked"},
    {"grammar", "output follows no grammar"},
    {"response_format", "output follows no grammar"},
    {"structured_outputs", "output follows no grammar"},
    {"guided_json", "output follows no grammar"},
    {"guided_regex", "output follows no grammar"},
    {"guided_choice", "output follows no grammar"},
    {"guided_grammar", "output follows no grammar"},
    {"adapter_id", "there are no adapters"},
}};

/// LMI's answer to what is not a request at all.
[[noreturn]] void fail_parsing(const std::string& what) {
  throw StatusError(424, ErrorKind::kInvalidArgument, "",
                    "Input Parsing failed. Ensure that the request payload is valid. " + what);
}

/// A value as Python would name its type: LMI's messages do.
std::string_view python_type(const value& found) {
  switch (found.kind()) {
    case boost::json::kind::null:
      return "NoneType";
    case boost::json::kind::bool_:
      return "bool";
    case boost::json::kind::int64:
    case boost::json::kind::uint64:
      return "int";
    case boost::json::kind::double_:
      return "float";
    case boost::json::kind::string:
      return "str";
    case boost::json::kind::array:
      return "list";
    case boost::json::kind::object:
      return "dict";
  }
  return "object";
}

std::string_view read_inputs(const object& body) {
  const value* inputs = body.if_contains("inputs");
  if (inputs == nullptr) {
    fail_parsing(
        "Invalid request payload. Request payload should be a json object specifying the 'inputs' field.");
  }
  if (!inputs->is_string()) {
    fail_parsing(fmt::format(
        "Invalid request payload. The 'inputs' field must be a string. Received type <class '{}'>",
        python_type(*inputs)));
  }
  if (inputs->get_string().empty()) {
    fail_parsing("Invalid request payload. The 'inputs' field does not contain any content.");
  }
  return inputs->get_string();
}

/// Adapters as LMI says that one is not there.
void refuse_adapters(const object& body) {
  const value* adapters = body.if_contains("adapters");
  if (adapters == nullptr || adapters->is_null()) return;
  const value* name = adapters;
  if (adapters->is_array()) {
    if (adapters->get_array().size() != 1) {
      fail_parsing("Number of adapters is not equal to the number of inputs");
    }
    name = &adapters->get_array().front();
  }
  if (!name->is_string()) fail_field("adapters", "a string or a list of one string", *adapters);
  if (name->get_string().empty()) return;
  fail_parsing(fmt::format("Adapter {} is not registered (adapters are not supported yet)",
                           core::quoted(std::string_view(name->get_string()))));
}

/// Reads the object `parameters` into a plan, one field after the other.
class ParameterReader {
 public:
  ParameterReader(const ServedModel& model, const object& json)
      : model_(model), fields_(json, "parameters"), formatter_(model.model->options().output_formatter) {}

  void read() {
    for (const auto& refused : kRefused) fields_.refuse(refused.name, refused.why);
    for (const auto& member : fields_.json()) read_member(member.key(), member.value());
  }

  const ParameterFields& generation() const { return generation_; }
  TextOptions take_text() { return std::move(text_); }
  const PromptOptions& prompt() const { return prompt_; }
  bool details() const { return details_; }
  bool full_text() const { return full_text_; }

  OutputFormatter formatter() const { return formatter_; }

 private:
  /// Reads one member; the getters of Fields give its value once more.
  void read_member(std::string_view name, const value& found) {
    if (read_text_member(name) || read_output_member(name)) return;
    if (std::ranges::any_of(kRefused, [&](const Refused& refused) { return refused.name == name; })) return;
    const std::string field = fields_.path(name);
    if (!generation_.set(name, found, field)) log_unknown_field(model_, field);
  }

  bool read_text_member(std::string_view name) {
    if (name == "stop_sequences" || name == "stop") {
      read_stop_strings(fields_, name, text_.stop);
    } else if (name == "include_stop_str_in_output") {
      text_.include_stop_in_text = fields_.boolean(name).value_or(false);
    } else if (name == "skip_special_tokens") {
      text_.skip_special_tokens = fields_.boolean(name).value_or(true);
    } else if (name == "spaces_between_special_tokens") {
      fields_.boolean(name);  // Blanks are what the tokenizer makes them; both values come to the same.
    } else if (name == "truncate") {
      prompt_.truncate = fields_.integer(name, 1, 2147483647);
    } else {
      return false;
    }
    return true;
  }

  bool read_output_member(std::string_view name) {
    if (name == "details") {
      details_ = fields_.boolean(name).value_or(false);
    } else if (name == "return_full_text") {
      full_text_ = fields_.boolean(name).value_or(false);
    } else if (name == "output_formatter") {
      read_formatter(name);
    } else {
      return false;
    }
    return true;
  }

  void read_formatter(std::string_view name) {
    const auto wanted = fields_.string(name);
    if (!wanted) return;
    if (*wanted == "json") {
      formatter_ = OutputFormatter::kJson;
    } else if (*wanted == "jsonlines") {
      formatter_ = OutputFormatter::kJsonLines;
    } else if (*wanted == "sse") {
      formatter_ = OutputFormatter::kSse;
    } else {
      log_unknown_field(model_, fmt::format("{}={}", fields_.path(name), *wanted));
    }
  }

  const ServedModel& model_;
  Fields fields_;
  ParameterFields generation_;
  TextOptions text_;
  PromptOptions prompt_;
  bool details_ = false;
  bool full_text_ = false;
  OutputFormatter formatter_;
};

}  // namespace

GenerationPlan read_prediction(const object& body, const ServedModel& model, const DialectContext& context) {
  (void)context;
  const std::string_view inputs = read_inputs(body);
  refuse_adapters(body);
  const Fields fields(body, "");
  const value* found = fields.find("parameters");
  if (found != nullptr && !found->is_object()) {
    fail_parsing("Invalid request payload. 'parameters' must be provided as an object of key-value pairs.");
  }
  const object none;
  ParameterReader reader(model, found == nullptr ? none : found->get_object());
  reader.read();
  const bool asked_to_stream = fields.boolean("stream").value_or(false);

  GenerationPlan plan;
  PredictionFormat format;
  const OutputFormatter formatter = reader.formatter();
  plan.streaming =
      formatter == OutputFormatter::kJsonLines || (asked_to_stream && formatter != OutputFormatter::kJson);
  format.server_sent_events = formatter == OutputFormatter::kSse;
  for (const auto& member : body) {
    const std::string_view name = member.key();
    if (name == "inputs" || name == "parameters" || name == "stream" || name == "adapters") continue;
    if (std::ranges::find(kOtherFields, name) == kOtherFields.end()) log_unknown_field(model, name);
  }

  plan.prompts.push_back(encode_prompt(model, inputs, "inputs", reader.prompt()));
  plan.parameters = reader.generation().resolve(model, plan.prompts.front().size());
  if (plan.streaming && plan.parameters.n > 1) {
    const std::string field = reader.generation().field_of("n");
    throw FieldError(ErrorKind::kInvalidArgument, field,
                     fmt::format("{} must be 1 in a streamed answer, found {}; leave out stream, or set "
                                 "parameters.output_formatter to json",
                                 field, plan.parameters.n));
  }
  plan.text = reader.take_text();
  format.details = reader.details() || plan.parameters.n > 1;
  format.full_text = reader.full_text();
  format.inputs = inputs;
  format.top_tokens = plan.parameters.top_n_tokens > 0;
  format.tokenizer = model.tokenizer;
  plan.keep_tokens = format.details;
  plan.writer = make_prediction_writer(std::move(format));
  return plan;
}

}  // namespace peregrine::api
