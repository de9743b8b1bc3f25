// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "api/dialects.h"
#include "api/json_fields.h"
#include "api/prediction_writer.h"
#include "api/word_lists.h"

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
constexpr auto kRefused = std::to_array<Refused>({
    {"is_return_cross_attentions", "attention is not reported"},
    {"watermark", "text is not marked"},
    {"grammar", "output follows no grammar"},
    {"response_format", "output follows no grammar"},
    {"structured_outputs", "output follows no grammar"},
    {"guided_json", "output follows no grammar"},
    {"guided_regex", "output follows no grammar"},
    {"guided_choice", "output follows no grammar"},
    {"guided_grammar", "output follows no grammar"},
    {"adapter_id", "there are no adapters"},
});

/// Names that only FasterTransformer's handler had (specification 2.2).
constexpr auto kFasterTransformer = std::to_array<std::string_view>(
    {"beam_width", "max_seq_len", "len_penalty", "beam_search_diversity_rate", "is_return_output_log_probs",
     "is_return_cum_log_probs", "return_cum_log_probs", "return_output_length", "bad_words_list",
     "stop_words_list"});

constexpr std::int64_t kMaxPromptLogProbs = 100;  // As top_n_tokens.
constexpr std::int64_t kMaxSequences = 128;       // As n.

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

/// What the parameters say about the answer.
struct OutputOptions {
  bool details = false;
  bool full_text = false;
  bool cumulative_log_probs = false;
  /// The field that asks for the prompt's log-probabilities, and how many of the most likely tokens each has.
  std::string prompt_field{};
  std::optional<std::int64_t> prompt_log_probs{};
  OutputFormatter formatter = OutputFormatter::kAuto;
};

/// Reads the object `parameters` into a plan, one field after the other.
class ParameterReader {
 public:
  ParameterReader(const ServedModel& model, const object& json)
      : model_(model), fields_(json, "parameters"), words_(model) {
    output_.formatter = model.model->options().output_formatter;
  }

  void read() {
    for (const auto& refused : kRefused) fields_.refuse(refused.name, refused.why);
    beams_ = fields_.boolean("use_beam_search").value_or(false);
    for (const auto& member : fields_.json()) read_member(member.key(), member.value());
    words_.apply(fields_, generation_);
    if (beams_) set_beams();
    check_penalties();
  }

  const ParameterFields& generation() const { return generation_; }
  TextOptions take_text() { return std::move(text_); }
  const PromptOptions& prompt() const { return prompt_; }
  const OutputOptions& output() const { return output_; }

 private:
  /// Reads one member; the getters of Fields give its value once more.
  void read_member(std::string_view name, const value& found) {
    if (!found.is_null() && std::ranges::find(kFasterTransformer, name) != kFasterTransformer.end()) {
      faster_transformer_ = name;
    }
    if (read_text_member(name) || read_output_member(name) || read_beam_member(name)) return;
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
    } else if (name == "bad_words_list" || name == "bad_words" || name == "bad_sequences") {
      words_.forbid(fields_, name);
    } else if (name == "stop_words_list") {
      words_.stop_at(fields_, name, text_.stop);
    } else if (name == "truncate") {
      prompt_.truncate = fields_.integer(name, 1, 2147483647);
    } else {
      return false;
    }
    return true;
  }

  bool read_output_member(std::string_view name) {
    if (name == "details") {
      if (fields_.boolean(name).value_or(false)) output_.details = true;
    } else if (name == "return_full_text") {
      output_.full_text = fields_.boolean(name).value_or(false);
    } else if (name == "is_return_output_log_probs" || name == "return_output_length") {
      if (flag(name)) output_.details = true;
    } else if (name == "is_return_cum_log_probs" || name == "return_cum_log_probs") {
      if (flag(name)) output_.cumulative_log_probs = true;
    } else if (name == "decoder_input_details") {
      if (fields_.boolean(name).value_or(false)) want_prompt(name, 0);
    } else if (name == "prompt_logprobs") {
      if (const auto top = fields_.integer(name, 0, kMaxPromptLogProbs)) want_prompt(name, *top);
    } else if (name == "output_formatter") {
      read_formatter(name);
    } else {
      return false;
    }
    return true;
  }

  /// vLLM's way to ask for beams: their number is best_of, or n.
  bool read_beam_member(std::string_view name) {
    if (name == "use_beam_search") return true;
    if (name != "best_of" || !beams_) return false;
    width_ = fields_.integer(name, 1, kMaxSequences).value_or(1);
    return true;
  }

  void set_beams() {
    if (generation_.has("num_beams")) {
      // Two numbers of beams: the parameters know which pairs can be.
      if (const value* best_of = fields_.find("best_of")) {
        generation_.set("best_of", *best_of, fields_.path("best_of"));
      }
    } else {
      std::string_view field = width_ > 1 ? "best_of" : "use_beam_search";
      for (const std::string_view name : {"n", "num_return_sequences"}) {
        const std::int64_t n = fields_.integer(name, 1, kMaxSequences).value_or(1);
        if (n > width_) field = name;
        width_ = std::max(width_, n);
      }
      generation_.set("num_beams", value(width_), fields_.path(field));
    }
    if (!generation_.has("do_sample")) {
      generation_.set("do_sample", value(false), fields_.path("use_beam_search"));
    }
  }

  /// A boolean; FasterTransformer's clients write 0 and 1 too.
  bool flag(std::string_view name) const {
    const value* found = fields_.find(name);
    if (found != nullptr && found->is_number()) return fields_.integer(name, 0, 1).value_or(0) == 1;
    return fields_.boolean(name).value_or(false);
  }

  void want_prompt(std::string_view name, std::int64_t top) {
    output_.prompt_field = fields_.path(name);
    output_.prompt_log_probs = std::max(output_.prompt_log_probs.value_or(0), top);
  }

  /// FasterTransformer took one of the two penalties.
  void check_penalties() const {
    if (faster_transformer_.empty()) return;
    const value* repetition = fields_.find("repetition_penalty");
    const value* presence = fields_.find("presence_penalty");
    if (repetition == nullptr || presence == nullptr) return;
    if (repetition->to_number<double>() == 1 || presence->to_number<double>() == 0) return;
    const std::string field = fields_.path("presence_penalty");
    throw FieldError(ErrorKind::kInvalidArgument, field,
                     fmt::format("{} and parameters.repetition_penalty must not both be given together with "
                                 "FasterTransformer's {}; leave one out",
                                 field, faster_transformer_));
  }

  void read_formatter(std::string_view name) {
    const auto wanted = fields_.string(name);
    if (!wanted) return;
    if (*wanted == "json") {
      output_.formatter = OutputFormatter::kJson;
    } else if (*wanted == "jsonlines") {
      output_.formatter = OutputFormatter::kJsonLines;
    } else if (*wanted == "sse") {
      output_.formatter = OutputFormatter::kSse;
    } else {
      log_unknown_field(model_, fmt::format("{}={}", fields_.path(name), *wanted));
    }
  }

  const ServedModel& model_;
  Fields fields_;
  ParameterFields generation_;
  WordLists words_;
  TextOptions text_;
  PromptOptions prompt_;
  OutputOptions output_;
  bool beams_ = false;                   ///< use_beam_search
  std::int64_t width_ = 1;               ///< ... and what best_of says then.
  std::string_view faster_transformer_;  ///< A field that only FasterTransformer had; empty: none.
};

void check_streamed(const ParameterReader& reader, const generation::Parameters& parameters) {
  const ParameterFields& fields = reader.generation();
  fields.check_streamed(parameters);
  constexpr std::string_view kAdvice = "leave out stream, or set parameters.output_formatter to json";
  if (parameters.n > 1) {
    const std::string field = fields.field_of("n");
    throw FieldError(
        ErrorKind::kInvalidArgument, field,
        fmt::format("{} must be 1 in a streamed answer, found {}; {}", field, parameters.n, kAdvice));
  }
  const std::string& field = reader.output().prompt_field;
  if (field.empty()) return;
  throw FieldError(
      ErrorKind::kInvalidArgument, field,
      fmt::format("{} is not for streamed answers, which do not report the prompt; {}", field, kAdvice));
}

PredictionFormat make_format(const ParameterReader& reader, const GenerationPlan& plan,
                             std::string_view inputs, const ServedModel& model) {
  const OutputOptions& output = reader.output();
  PredictionFormat format;
  format.details = output.details || output.cumulative_log_probs || output.prompt_log_probs ||
                   plan.parameters.n > 1 || plan.parameters.num_beams > 1 || plan.parameters.best_of > 1;
  // transformers repeats the text only where the answer continues it.
  format.full_text = output.full_text && !plan.decoder_start;
  format.cumulative_log_probs = output.cumulative_log_probs;
  format.inputs = inputs;
  format.top_tokens = plan.parameters.top_n_tokens > 0;
  if (output.prompt_log_probs) format.prefill = plan.prompts.front();
  format.prefill_top_tokens = output.prompt_log_probs.value_or(0) > 0;
  format.server_sent_events = output.formatter == OutputFormatter::kSse;
  format.tokenizer = model.tokenizer;
  return format;
}

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
  const OutputOptions& output = reader.output();
  plan.streaming = output.formatter == OutputFormatter::kJsonLines ||
                   (asked_to_stream && output.formatter != OutputFormatter::kJson);
  for (const auto& member : body) {
    const std::string_view name = member.key();
    if (name == "inputs" || name == "parameters" || name == "stream" || name == "adapters") continue;
    if (std::ranges::find(kOtherFields, name) == kOtherFields.end()) log_unknown_field(model, name);
  }

  if (output.prompt_log_probs) check_scores_prompts(model, output.prompt_field);
  plan.decoder_start = decoder_start(model);
  plan.prompts.push_back(encode_prompt(model, inputs, "inputs", reader.prompt()));
  plan.parameters = reader.generation().resolve(model, plan.prompts.front().size());
  if (output.prompt_log_probs) {
    plan.parameters.prompt_logprobs = static_cast<std::int32_t>(*output.prompt_log_probs);
  }
  if (plan.streaming) check_streamed(reader, plan.parameters);
  // TGI's best_of: the best goes first, the others follow in best_of_sequences.
  plan.best_first = reader.generation().has("best_of");
  plan.text = reader.take_text();
  PredictionFormat format = make_format(reader, plan, inputs, model);
  plan.keep_tokens = format.details;
  plan.writer = make_prediction_writer(std::move(format));
  return plan;
}

}  // namespace peregrine::api
