// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <utility>

#include "api/json_output.h"
#include "api/openai_common.h"
#include "core/json.h"
#include "text/model_template.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using core::ErrorKind;

// Beyond it a conversation is no conversation; it bounds what a template can be made to do.
constexpr std::size_t kMaxMessages = 16384;
constexpr std::size_t kMaxParts = 1024;
constexpr std::size_t kMaxTools = 1024;

constexpr auto kOwnFields = std::to_array<std::string_view>({"messages",
                                                             "max_completion_tokens",
                                                             "logprobs",
                                                             "top_logprobs",
                                                             "tools",
                                                             "tool_choice",
                                                             "functions",
                                                             "function_call",
                                                             "documents",
                                                             "add_generation_prompt",
                                                             "continue_final_message",
                                                             "chat_template",
                                                             "chat_template_kwargs",
                                                             "add_special_tokens",
                                                             "modalities",
                                                             "audio",
                                                             "web_search_options",
                                                             "echo",
                                                             "media_io_kwargs",
                                                             "mm_processor_kwargs"});

[[noreturn]] void fail_unsupported(std::string field, const std::string& message) {
  throw FieldError(ErrorKind::kUnsupported, std::move(field), message);
}

class ChatWriter : public OpenAiWriter {
 public:
  ChatWriter(OpenAiFrame frame, std::shared_ptr<const text::Tokenizer> tokenizer, bool log_probs,
             bool prompt_log_probs, std::size_t n)
      : OpenAiWriter(std::move(frame)),
        tokenizer_(std::move(tokenizer)),
        log_probs_(log_probs),
        prompt_log_probs_(prompt_log_probs),
        n_(n) {}

  void add_prompt(std::size_t prompt, std::vector<generation::SampledToken> tokens) override {
    (void)prompt;
    std::ranges::move(tokens, std::back_inserter(prompt_));
  }

  void begin_stream(std::string& body) override {
    for (std::size_t i = 0; i < n_; ++i) {
      begin_chunk(i, body);
      body += R"(,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null)";
      end_chunk(body);
    }
  }

  void write_tokens(std::size_t index, const SequenceAnswer& answer, std::span<const TextToken> tokens,
                    std::string& body) override {
    std::string text;
    for (const TextToken& token : tokens) text += token.text;
    if (!text.empty() || log_probs_) {
      begin_chunk(index, body);
      body += ",\"delta\":{\"content\":";
      append_json_string(body, text);
      body += '}';
      append_log_probs(tokens, body);
      body += ",\"finish_reason\":null";
      end_chunk(body);
    }
    if (answer.finish) write_finish(index, answer, body);
  }

 protected:
  void append_members(std::string& body) override {
    if (!prompt_log_probs_) return;
    body += ",\"prompt_logprobs\":";
    append_prompt_log_probs(body, tokenizer_.get(), prompt_);
  }

  void append_choice(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    fmt::format_to(std::back_inserter(body),
                   "{{\"index\":{},\"message\":{{\"role\":\"assistant\",\"content\":", index);
    append_json_string(body, answer.text);
    body += ",\"refusal\":null}";
    append_log_probs(answer.tokens, body);
    body += ",\"finish_reason\":";
    append_json_string(body, openai_finish_reason(answer.finish.value_or(generation::FinishReason::kError)));
    body += '}';
  }

  void write_end(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    begin_chunk(index, body);
    body += ",\"delta\":{},\"logprobs\":null,\"finish_reason\":";
    append_json_string(body, openai_finish_reason(answer.finish.value_or(generation::FinishReason::kError)));
    end_chunk(body);
  }

 private:
  void append_log_probs(std::span<const TextToken> tokens, std::string& body) const {
    body += ",\"logprobs\":";
    if (!log_probs_) {
      body += "null";
      return;
    }
    body += "{\"content\":[";
    bool first = true;
    for (const TextToken& token : tokens) {
      if (token.token.token.id == kNoToken) continue;  // Text without a token.
      if (!std::exchange(first, false)) body += ',';
      append_token(token.token.token, body);
      body += ",\"top_logprobs\":[";
      for (std::size_t i = 0; i < token.token.top.size(); ++i) {
        if (i > 0) body += ',';
        append_token(token.token.top[i], body);
        body += '}';
      }
      body += "]}";
    }
    body += "]}";
  }

  /// Appends {"token","logprob","bytes" without the closing brace.
  void append_token(const generation::TokenLogProb& token, std::string& body) const {
    const std::string text = token_text(tokenizer_.get(), token.id);
    body += "{\"token\":";
    append_json_string(body, text);
    body += ",\"logprob\":";
    append_log_prob(body, token.log_prob);
    body += ",\"bytes\":[";
    for (std::size_t i = 0; i < text.size(); ++i) {
      fmt::format_to(std::back_inserter(body), "{}{}", i > 0 ? "," : "",
                     static_cast<unsigned>(static_cast<unsigned char>(text[i])));
    }
    body += ']';
  }

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  bool log_probs_;
  bool prompt_log_probs_;
  std::size_t n_;
  std::vector<generation::SampledToken> prompt_;  ///< From its second token.
};

/// The text of a content that is a list of parts, as vLLM joins them for templates.
std::string join_parts(const boost::json::array& parts, const std::string& path) {
  if (parts.size() > kMaxParts) fail_field(path, fmt::format("a list of at most {} parts", kMaxParts), parts);
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string part_path = fmt::format("{}[{}]", path, i);
    if (!parts[i].is_object()) fail_field(part_path, "an object with type and text", parts[i]);
    const Fields part(parts[i].get_object(), part_path);
    const auto type = part.string("type");
    if (!type || *type != "text") {
      const std::string field = part.path("type");
      if (!type)
        throw FieldError(ErrorKind::kInvalidArgument, field, field + " is missing; it must be 'text'");
      fail_unsupported(
          field, fmt::format("{} {} is not supported: the model takes text only; it must be 'text'", field,
                             core::quoted(*type)));
    }
    const auto content = part.string("text");
    if (!content) {
      const std::string field = part.path("text");
      throw FieldError(ErrorKind::kInvalidArgument, field, field + " is missing; it must be a string");
    }
    if (i > 0) text += '\n';
    text += *content;
  }
  return text;
}

/// The content of a message as templates expect it: one string.
value read_content(const Fields& message, std::string_view role) {
  const std::string path = message.path("content");
  const value* content = message.find("content");
  if (content == nullptr) {
    // An answer of tools alone has no content; templates are written for "" there (as vLLM gives it).
    if (role == "assistant") return value("");
    throw FieldError(ErrorKind::kInvalidArgument, path,
                     fmt::format("{} is missing; it must be a string or a list of parts", path));
  }
  if (content->is_string()) return *content;
  if (!content->is_array()) fail_field(path, "a string or a list of parts", *content);
  return value(join_parts(content->get_array(), path));
}

/// OpenAI's clients send the arguments of a call as a string of JSON; templates want the object.
void read_tool_calls(const Fields& message, boost::json::object& out) {
  const boost::json::array* calls = message.array("tool_calls", kMaxTools);
  if (calls == nullptr || calls->empty()) {
    out.erase("tool_calls");  // Some templates only ask whether it is there.
    return;
  }
  boost::json::array& copies = out.at("tool_calls").get_array();
  for (std::size_t i = 0; i < calls->size(); ++i) {
    const std::string path = fmt::format("{}[{}]", message.path("tool_calls"), i);
    if (!(*calls)[i].is_object()) fail_field(path, "an object", (*calls)[i]);
    const boost::json::object* function = Fields((*calls)[i].get_object(), path).object("function");
    if (function == nullptr) {
      throw FieldError(ErrorKind::kInvalidArgument, path + ".function",
                       path + ".function is missing; it must be an object with name and arguments");
    }
    const Fields fields(*function, path + ".function");
    const value* arguments = fields.find("arguments");
    if (arguments != nullptr && arguments->is_object()) continue;
    value parsed = boost::json::object();
    const std::string field = fields.path("arguments");
    if (const auto text = fields.string("arguments"); text && !text->empty()) {
      try {
        parsed = core::parse_json(*text, field);
      } catch (const core::Error& error) {
        throw FieldError(error.kind(), field, error.what());
      }
      if (!parsed.is_object()) fail_field(field, "an object in JSON", parsed);
    }
    copies[i].get_object()["function"].get_object()["arguments"] = std::move(parsed);
  }
}

boost::json::array read_messages(const Fields& body) {
  const value* found = body.find("messages");
  if (found == nullptr || !found->is_array() || found->get_array().empty() ||
      found->get_array().size() > kMaxMessages) {
    const std::string allowed = fmt::format("a list of 1 to {} messages", kMaxMessages);
    if (found != nullptr) fail_field("messages", allowed, *found);
    throw FieldError(ErrorKind::kInvalidArgument, "messages", "messages is missing; it must be " + allowed);
  }
  boost::json::array out;
  for (const value& item : found->get_array()) {
    const std::string path = fmt::format("messages[{}]", out.size());
    if (!item.is_object()) fail_field(path, "an object with role and content", item);
    const Fields message(item.get_object(), path);
    const auto role = message.string("role");
    if (!role || role->empty()) {
      const std::string field = message.path("role");
      throw FieldError(
          ErrorKind::kInvalidArgument, field,
          fmt::format("{} must be a string such as 'user', found {}", field, role ? "an empty one" : "none"));
    }
    message.string("name");
    message.string("tool_call_id");
    // Other members are the template's business, but null is absent for it too.
    boost::json::object copy;
    for (const auto& member : item.get_object()) {
      if (!member.value().is_null()) copy.insert(member);
    }
    copy["content"] = read_content(message, *role);
    read_tool_calls(message, copy);
    out.emplace_back(std::move(copy));
  }
  return out;
}

void check_tools(const boost::json::array& tools) {
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string path = fmt::format("tools[{}]", i);
    if (!tools[i].is_object()) fail_field(path, "an object", tools[i]);
    const Fields tool(tools[i].get_object(), path);
    const boost::json::object* function = tool.object("function");
    if (function == nullptr || !Fields(*function, path + ".function").string("name")) {
      throw FieldError(ErrorKind::kInvalidArgument, path + ".function.name",
                       path + ".function.name is missing");
    }
  }
}

/// The tools that the template is to show, or null. Calls are not recognized in answers yet, so tools that
/// the model may call are refused.
const boost::json::array* read_tools(const Fields& body) {
  body.refuse("functions", "it is the old form of tools");
  const value* choice = body.find("tool_choice");
  std::string_view chosen = "auto";
  if (choice != nullptr) {
    static constexpr std::array<std::string_view, 3> kChoices = {"none", "auto", "required"};
    chosen = choice->is_object() ? "a function" : *body.one_of("tool_choice", kChoices);
    if (chosen == "required" || choice->is_object()) {
      fail_unsupported("tool_choice",
                       fmt::format("tool_choice must be 'none' or 'auto', found {}: calls of tools "
                                   "are not supported yet",
                                   chosen));
    }
  }
  const value* old_choice = body.find("function_call");
  if (old_choice != nullptr && *old_choice != "none" && *old_choice != "auto") {
    fail_field("function_call", "'none' or 'auto'", *old_choice);
  }
  const boost::json::array* tools = body.array("tools", kMaxTools);
  if (tools == nullptr || tools->empty()) return nullptr;
  check_tools(*tools);
  if (chosen != "none") {
    fail_unsupported("tools",
                     "tools are not supported yet unless tool_choice is 'none': calls of tools are not "
                     "recognized in the answer");
  }
  return tools;
}

void refuse_others(const Fields& body) {
  body.refuse("audio", "answers are text");
  body.refuse("web_search_options", "nothing is searched");
  body.refuse("echo", "only completions have it");
  body.refuse("media_io_kwargs", "the model takes text only");
  body.refuse("mm_processor_kwargs", "the model takes text only");
  if (const boost::json::array* modalities = body.array("modalities", 16)) {
    for (std::size_t i = 0; i < modalities->size(); ++i) {
      if ((*modalities)[i] != "text")
        fail_field(fmt::format("modalities[{}]", i), "'text'", (*modalities)[i]);
    }
  }
  if (const value* found = body.find("chat_template")) {
    fail_unsupported(
        "chat_template",
        fmt::format("chat_template must be left out, found {}: templates are programs, and those of "
                    "requests are not run; option.chat_template sets the model's",
                    found->is_string() ? "a template" : "a value that is no template"));
  }
}

/// The members of a request that the template reads.
boost::json::object template_request(const Fields& body, const boost::json::array* tools) {
  boost::json::object out;
  out["messages"] = read_messages(body);
  if (tools != nullptr) out["tools"] = *tools;
  if (const auto* documents = body.array("documents", kMaxParts)) out["documents"] = *documents;
  const bool go_on = body.boolean("continue_final_message").value_or(false);
  const bool add_prompt = body.boolean("add_generation_prompt").value_or(!go_on);
  if (go_on && add_prompt) {
    throw FieldError(ErrorKind::kInvalidArgument, "continue_final_message",
                     "continue_final_message and add_generation_prompt must not both be true");
  }
  out["continue_final_message"] = go_on;
  out["add_generation_prompt"] = add_prompt;
  if (const auto* more = body.object("chat_template_kwargs")) out["chat_template_kwargs"] = *more;
  return out;
}

std::string render(const boost::json::object& request, const ServedModel& model, std::int64_t now) {
  if (model.chat_template == nullptr) {
    fail_unsupported("messages", model.chat_template_error.empty()
                                     ? fmt::format("model {} has no chat template", model.model->name())
                                     : model.chat_template_error);
  }
  try {
    return model.chat_template->render(request, now);
  } catch (const core::Error& error) {
    throw FieldError(
        error.kind(), "messages",
        fmt::format("messages: the chat template of model {}: {}", model.model->name(), error.what()));
  }
}

void read_max_tokens(const Fields& body, OpenAiRequest& request) {
  const auto newer = body.integer("max_completion_tokens", 1, std::numeric_limits<std::int32_t>::max());
  if (!newer) return;
  if (request.max_tokens && *request.max_tokens != *newer) {
    throw FieldError(
        ErrorKind::kInvalidArgument, "max_completion_tokens",
        fmt::format("max_completion_tokens and max_tokens must be the same where both are given, "
                    "found {} and {}",
                    *newer, *request.max_tokens));
  }
  request.max_tokens = newer;
  request.max_tokens_field = "max_completion_tokens";
}

/// Returns whether log-probabilities are wanted.
bool read_log_probs(const Fields& body, OpenAiRequest& request) {
  const bool wanted = body.boolean("logprobs").value_or(false);
  const auto top = body.integer("top_logprobs", 0, 20);
  if (!wanted && top.value_or(0) > 0) {
    throw FieldError(ErrorKind::kInvalidArgument, "top_logprobs",
                     fmt::format("top_logprobs, {}, needs logprobs to be true", *top));
  }
  if (wanted) request.parameters.set("top_n_tokens", value(top.value_or(0)), "top_logprobs");
  return wanted;
}

}  // namespace

GenerationPlan read_chat(const boost::json::object& object, const ServedModel& model,
                         const DialectContext& context) {
  const Fields body(object, "");
  OpenAiRequest request = read_openai_request(body, model, kOwnFields);
  refuse_others(body);
  read_max_tokens(body, request);
  const bool log_probs = read_log_probs(body, request);
  const boost::json::object conversation = template_request(body, read_tools(body));

  PromptOptions prompt_options;
  // The template writes them.
  prompt_options.add_special = body.boolean("add_special_tokens").value_or(false);
  prompt_options.truncate = tokens_to_keep(request, model, 1);

  GenerationPlan plan;
  const std::string prompt = render(conversation, model, context.created);
  plan.decoder_start = decoder_start(model);
  plan.prompts.push_back(encode_prompt(model, prompt, "messages", prompt_options));
  plan.parameters = resolve_openai(request, model, plan.prompts, std::nullopt);
  plan.text = request.text;
  plan.streaming = request.streaming;
  plan.keep_tokens = log_probs;

  OpenAiFrame frame = openai_frame(request, model, context, "chatcmpl");
  frame.whole_object = "chat.completion";
  frame.chunk_object = "chat.completion.chunk";
  frame.prompt_tokens = plan.prompts.front().size();
  plan.writer =
      std::make_unique<ChatWriter>(std::move(frame), model.tokenizer, log_probs,
                                   request.prompt_log_probs.has_value(), static_cast<std::size_t>(request.n));
  return plan;
}

}  // namespace peregrine::api
