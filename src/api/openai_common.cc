// SPDX-License-Identifier: Apache-2.0
#include "api/openai_common.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "api/json_output.h"
#include "api/word_lists.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using core::ErrorKind;

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();

enum class Kind : std::uint8_t { kString, kBoolean, kInteger, kObject };

struct KnownField {
  std::string_view name;
  Kind kind;
};

/// Fields that change nothing of the answer; only their type is checked.
constexpr std::array kWithoutEffect = std::to_array<KnownField>({
    {"model", Kind::kString},  // The router has chosen by it, or by the next.
    {"model_name", Kind::kString},
    {"user", Kind::kString},
    {"safety_identifier", Kind::kString},
    {"prompt_cache_key", Kind::kString},
    {"prompt_cache_retention", Kind::kString},
    {"cache_salt", Kind::kString},
    {"request_id", Kind::kString},
    {"service_tier", Kind::kString},
    {"reasoning_effort", Kind::kString},
    {"verbosity", Kind::kString},
    {"metadata", Kind::kObject},
    {"prediction", Kind::kObject},
    {"store", Kind::kBoolean},
    {"parallel_tool_calls", Kind::kBoolean},
    {"spaces_between_special_tokens", Kind::kBoolean},
    {"include_reasoning", Kind::kBoolean},
    {"priority", Kind::kInteger},
});

struct RefusedField {
  std::string_view name;
  std::string_view why;
};

/// Known fields that would change the answer and cannot.
constexpr std::array kRefused = std::to_array<RefusedField>({
    {"logit_bias", "no logits are biased"},
    {"allowed_token_ids", "tokens are not limited to a list"},
    {"logits_processors", "no code of requests is run"},
    {"prompt_embeds", "prompts are text or token ids"},
    {"return_tokens_as_token_ids", "tokens are named by their text"},
    {"return_token_ids", "tokens are named by their text"},
    {"guided_json", "there is no structured output"},
    {"guided_regex", "there is no structured output"},
    {"guided_choice", "there is no structured output"},
    {"guided_grammar", "there is no structured output"},
    {"structured_outputs", "there is no structured output"},
    {"structural_tag", "there is no structured output"},
    {"kv_transfer_params", "caches are not passed between servers"},
    {"vllm_xargs", "it is for extensions of vLLM"},
});

/// Fields that are parameters of generation under the same name (or an alias), range and all.
constexpr auto kParameters = std::to_array<std::string_view>(
    {"presence_penalty", "frequency_penalty", "top_k", "min_p", "repetition_penalty", "min_tokens",
     "stop_token_ids", "ignore_eos", "length_penalty", "early_stopping"});

constexpr std::int64_t kMaxPromptLogProbs = 20;  // vLLM's usual limit, and that of logprobs here.

/// All other fields that both dialects read.
constexpr auto kCommon = std::to_array<std::string_view>(
    {"temperature", "top_p", "seed", "n", "best_of", "max_tokens", "stop", "stream", "stream_options",
     "skip_special_tokens", "include_stop_str_in_output", "truncate_prompt_tokens", "response_format",
     "use_beam_search", "prompt_logprobs", "bad_words"});

void check_kind(const Fields& body, const KnownField& field) {
  switch (field.kind) {
    case Kind::kString:
      body.string(field.name);
      break;
    case Kind::kBoolean:
      body.boolean(field.name);
      break;
    case Kind::kInteger:
      body.integer(field.name, std::numeric_limits<std::int64_t>::min(),
                   std::numeric_limits<std::int64_t>::max());
      break;
    case Kind::kObject:
      body.object(field.name);
      break;
  }
}

void log_unknown(const Fields& body, const ServedModel& model, std::span<const std::string_view> others) {
  for (const auto& member : body.json()) {
    const std::string_view name = member.key();
    const bool known = std::ranges::find(kWithoutEffect, name, &KnownField::name) != kWithoutEffect.end() ||
                       std::ranges::find(kRefused, name, &RefusedField::name) != kRefused.end() ||
                       std::ranges::find(kParameters, name) != kParameters.end() ||
                       std::ranges::find(kCommon, name) != kCommon.end() ||
                       std::ranges::find(others, name) != others.end();
    if (!known) log_unknown_field(model, name);
  }
}

void read_sampling(const Fields& body, const ServedModel& model, ParameterFields& parameters) {
  // OpenAI's narrower ranges; those of the others are the parameters' own.
  body.number("temperature", 0, 2);
  if (body.number("top_p", 0, 1) == 0.0) fail_field("top_p", "a number in (0, 1]", *body.find("top_p"));
  for (const std::string_view name : {"temperature", "top_p"}) {
    if (const value* found = body.find(name)) parameters.set(name, *found, std::string(name));
  }
  for (const std::string_view name : kParameters) {
    if (const value* found = body.find(name)) parameters.set(name, *found, std::string(name));
  }
  // Any 64 bits are a seed.
  if (const value* found = body.find("seed")) {
    const bool negative = found->is_int64() && found->get_int64() < 0;
    parameters.set("seed", negative ? value(static_cast<std::uint64_t>(found->get_int64())) : *found, "seed");
  }
  WordLists words(model);
  words.forbid(body, "bad_words");
  words.apply(body, parameters);
}

std::int64_t read_n(const Fields& body, const ServedModel& model, ParameterFields& parameters) {
  const std::int64_t most = std::clamp<std::int64_t>(model.model->limits().max_sequences, 1, 128);
  const std::int64_t n = body.integer("n", 1, most).value_or(1);
  const std::int64_t best_of = body.integer("best_of", 1, most).value_or(n);
  if (best_of < n) {
    throw FieldError(ErrorKind::kInvalidArgument, "best_of",
                     fmt::format("best_of must be at least n, {}, found {}", n, best_of));
  }
  const bool beams = body.boolean("use_beam_search").value_or(false);
  parameters.set("n", value(n), "n");
  if (!beams && best_of > n) parameters.set("best_of", value(best_of), "best_of");
  // Sampling is the rule here (temperature 0 turns it off all the same), and no beams; the model's
  // generation_config.json may be made for other uses.
  parameters.set("do_sample", value(!beams), beams ? "use_beam_search" : "temperature");
  parameters.set("num_beams", value(beams ? best_of : 1), best_of > n ? "best_of" : "n");
  return n;
}

void read_prompt_log_probs(const Fields& body, const ServedModel& model, OpenAiRequest& request) {
  request.prompt_log_probs = body.integer("prompt_logprobs", 0, kMaxPromptLogProbs);
  if (!request.prompt_log_probs) return;
  check_scores_prompts(model, "prompt_logprobs");
  if (!request.streaming) return;
  throw FieldError(ErrorKind::kInvalidArgument, "prompt_logprobs",
                   "prompt_logprobs must be left out where stream is true: only whole answers have them");
}

void read_streaming(const Fields& body, OpenAiRequest& request) {
  request.streaming = body.boolean("stream").value_or(false);
  const boost::json::object* found = body.object("stream_options");
  if (found == nullptr) return;
  if (!request.streaming) {
    throw FieldError(ErrorKind::kInvalidArgument, "stream_options",
                     "stream_options must be left out where stream is not true");
  }
  const Fields options(*found, "stream_options");
  request.include_usage = options.boolean("include_usage").value_or(false);
  options.refuse("continuous_usage_stats", "usage comes once, at the end");
  options.boolean("include_obfuscation");  // Nothing is added to the chunks, whatever it says.
}

void read_response_format(const Fields& body) {
  const boost::json::object* found = body.object("response_format");
  if (found == nullptr) return;
  const Fields format(*found, "response_format");
  static constexpr std::array<std::string_view, 4> kTypes = {"text", "json_object", "json_schema",
                                                             "structural_tag"};
  const auto type = format.one_of("type", kTypes);
  if (!type) {
    throw FieldError(ErrorKind::kInvalidArgument, "response_format.type",
                     "response_format.type is missing; it must be 'text'");
  }
  if (*type == "text") return;
  throw FieldError(ErrorKind::kUnsupported, "response_format",
                   fmt::format("response_format of type '{}' is not supported yet; only 'text' is", *type));
}

}  // namespace

OpenAiRequest read_openai_request(const Fields& body, const ServedModel& model,
                                  std::span<const std::string_view> others) {
  OpenAiRequest request;
  for (const KnownField& field : kWithoutEffect) check_kind(body, field);
  for (const RefusedField& field : kRefused) body.refuse(field.name, field.why);
  read_sampling(body, model, request.parameters);
  request.n = read_n(body, model, request.parameters);
  read_streaming(body, request);
  read_prompt_log_probs(body, model, request);
  read_response_format(body);
  read_stop_strings(body, "stop", request.text.stop);
  request.text.include_stop_in_text = body.boolean("include_stop_str_in_output").value_or(false);
  request.text.skip_special_tokens = body.boolean("skip_special_tokens").value_or(true);
  request.max_tokens = body.integer("max_tokens", 1, kMaxInt);
  request.truncate = body.integer("truncate_prompt_tokens", -1, kMaxInt);
  if (request.truncate == 0) {
    fail_field("truncate_prompt_tokens", "-1 or an integer from 1", *body.find("truncate_prompt_tokens"));
  }
  log_unknown(body, model, others);
  return request;
}

std::optional<std::int64_t> tokens_to_keep(const OpenAiRequest& request, const ServedModel& model,
                                           std::int64_t default_max_tokens) {
  if (!request.truncate || *request.truncate > 0) return request.truncate;
  // An encoder's text takes nothing of the answer's room.
  if (model.model->limits().encoder_decoder) return model.model->limits().max_model_length;
  const std::int64_t answer = request.max_tokens.value_or(default_max_tokens);
  return std::max<std::int64_t>(model.model->limits().max_model_length - answer, 1);
}

generation::Parameters resolve_openai(OpenAiRequest& request, const ServedModel& model,
                                      std::span<const std::vector<std::int32_t>> prompts,
                                      std::optional<std::int64_t> default_max_tokens) {
  std::size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  const std::int64_t context = model.model->limits().max_model_length;
  // An answer shares its context with the prompt, or with the token that it begins with.
  if (model.model->limits().encoder_decoder) longest = 1;
  const std::int64_t room = context - static_cast<std::int64_t>(longest);
  const std::string& field = request.max_tokens_field;
  if (request.max_tokens && *request.max_tokens > room) {
    throw FieldError(
        ErrorKind::kInvalidArgument, field,
        fmt::format("This model's maximum context length is {} tokens (max_model_len), but {} were "
                    "requested: {} of the prompt and {} of {}; shorten the prompt or lower {}",
                    context, static_cast<std::int64_t>(longest) + *request.max_tokens, longest,
                    *request.max_tokens, field, field));
  }
  const std::int64_t most = request.max_tokens.value_or(default_max_tokens.value_or(room));
  request.parameters.set("max_new_tokens", value(std::clamp<std::int64_t>(most, 1, kMaxInt)), field);
  generation::Parameters parameters = request.parameters.resolve(model, longest);
  if (request.prompt_log_probs) {
    parameters.prompt_logprobs = static_cast<std::int32_t>(*request.prompt_log_probs);
  }
  if (request.streaming) request.parameters.check_streamed(parameters);
  return parameters;
}

std::string_view openai_finish_reason(generation::FinishReason reason) {
  switch (reason) {
    case generation::FinishReason::kEosToken:
    case generation::FinishReason::kStopSequence:
      return "stop";
    default:
      return generation::to_string(reason);
  }
}

std::string token_text(const text::Tokenizer* tokenizer, std::int32_t id) {
  if (tokenizer == nullptr) return fmt::format("token_id:{}", id);
  return tokenizer->decode({&id, 1}, false);
}

void append_log_prob(std::string& out, float log_prob) {
  append_json_number(out, std::max(log_prob, -9999.0f));
}

void append_prompt_log_probs(std::string& out, const text::Tokenizer* tokenizer,
                             std::span<const generation::SampledToken> tokens) {
  const auto append = [&](const generation::TokenLogProb& token, std::size_t rank) {
    fmt::format_to(std::back_inserter(out), "\"{}\":{{\"logprob\":", token.id);
    append_log_prob(out, token.log_prob);
    out += rank == 0 ? ",\"rank\":null" : fmt::format(",\"rank\":{}", rank);
    out += ",\"decoded_token\":";
    append_json_string(out, token_text(tokenizer, token.id));
    out += '}';
  };
  out += "[null";
  for (const generation::SampledToken& token : tokens) {
    const auto same =
        std::ranges::find(token.top, token.token.id, [](const auto& other) { return other.id; });
    const auto rank = static_cast<std::size_t>(same - token.top.begin()) + 1;
    out += ",{";
    append(token.token, same == token.top.end() ? 0 : rank);
    for (std::size_t i = 0; i < token.top.size(); ++i) {
      if (token.top[i].id == token.token.id) continue;
      out += ',';
      append(token.top[i], i + 1);
    }
    out += '}';
  }
  out += ']';
}

OpenAiFrame openai_frame(const OpenAiRequest& request, const ServedModel& model,
                         const DialectContext& context, std::string_view prefix) {
  OpenAiFrame frame;
  frame.id = fmt::format("{}-{}", prefix, context.request_id);
  frame.created = context.created;
  frame.model = model.model->name();
  frame.server_sent_events = context.server_sent_events;
  frame.include_usage = request.include_usage;
  return frame;
}

OpenAiWriter::OpenAiWriter(OpenAiFrame frame)
    : frame_(std::move(frame)), chunk_begin_(begin_object(frame_.chunk_object)) {}

Head OpenAiWriter::head(bool streaming) const {
  Head head;
  if (!streaming) {
    head.content_type = "application/json";
  } else if (frame_.server_sent_events) {
    head.content_type = "text/event-stream; charset=utf-8";
    head.headers.emplace_back("Cache-Control", "no-cache");
  } else {
    head.content_type = "application/jsonlines";
  }
  return head;
}

void OpenAiWriter::write_whole(std::span<const SequenceAnswer> answers, std::string& body) {
  body += begin_object(frame_.whole_object);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (i > 0) body += ',';
    append_choice(i, answers[i], body);
  }
  body += "],";
  append_usage(answers, body);
  append_members(body);
  body += "}\n";
}

void OpenAiWriter::write_finish(std::size_t index, const SequenceAnswer& answer, std::string& body) {
  if (answer.finish != generation::FinishReason::kError) return write_end(index, answer, body);
  begin_event(body);
  body += error_json(core::Error(ErrorKind::kInternal, answer.error), ErrorStyle::kOpenAi);
  end_event(body);
}

void OpenAiWriter::end_stream(std::span<const SequenceAnswer> answers, std::string& body) {
  if (frame_.include_usage) {
    begin_event(body);
    body += chunk_begin_;
    body += "],";
    append_usage(answers, body);
    body += '}';
    end_event(body);
  }
  end_events(body);
}

void OpenAiWriter::write_stream_error(const core::Error& error, std::string& body) {
  begin_event(body);
  body += error_json(error, ErrorStyle::kOpenAi);
  end_event(body);
  end_events(body);
}

void OpenAiWriter::begin_chunk(std::size_t index, std::string& body) const {
  begin_event(body);
  body += chunk_begin_;
  fmt::format_to(std::back_inserter(body), "{{\"index\":{}", index);
}

void OpenAiWriter::end_chunk(std::string& body) const {
  // Where usage is asked for, OpenAI's chunks before the last have it too, as null.
  body += frame_.include_usage ? "}],\"usage\":null}" : "}]}";
  end_event(body);
}

void OpenAiWriter::append_usage(std::span<const SequenceAnswer> answers, std::string& body) const {
  std::size_t generated = 0;
  for (const SequenceAnswer& answer : answers) generated += answer.token_count;
  fmt::format_to(std::back_inserter(body),
                 "\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{}}}",
                 frame_.prompt_tokens, generated, frame_.prompt_tokens + generated);
}

void OpenAiWriter::begin_event(std::string& body) const {
  if (frame_.server_sent_events) body += "data: ";
}

void OpenAiWriter::end_event(std::string& body) const { body += frame_.server_sent_events ? "\n\n" : "\n"; }

void OpenAiWriter::end_events(std::string& body) const {
  if (frame_.server_sent_events) body += "data: [DONE]\n\n";
}

std::string OpenAiWriter::begin_object(std::string_view object) const {
  std::string out = "{\"id\":";
  append_json_string(out, frame_.id);
  out += ",\"object\":";
  append_json_string(out, object);
  fmt::format_to(std::back_inserter(out), ",\"created\":{},\"model\":", frame_.created);
  append_json_string(out, frame_.model);
  return out + ",\"choices\":[";
}

}  // namespace peregrine::api
