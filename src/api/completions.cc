// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <utility>

#include "api/json_output.h"
#include "api/openai_common.h"
#include "text/detokenizer.h"
#include "text/unicode.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using core::ErrorKind;

constexpr std::int64_t kDefaultMaxTokens = 16;  // OpenAI's.
constexpr std::size_t kMaxPrompts = 128;

constexpr auto kOwnFields =
    std::to_array<std::string_view>({"prompt", "logprobs", "echo", "suffix", "add_special_tokens"});

/// A prompt as its answers show it.
struct ShownPrompt {
  std::string text;                                ///< Before each of them, for echo.
  std::vector<TextToken> tokens;                   ///< The same, where their log-probabilities are wanted.
  std::vector<generation::SampledToken> scored{};  ///< From its second token, as they come.
};

/// How answers look.
struct CompletionFormat {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  bool log_probs = false;
  bool echo = false;
  bool prompt_log_probs = false;     ///< vLLM's, a member of their own.
  std::vector<ShownPrompt> prompts;  ///< One for each.
  std::size_t n = 1;                 ///< Answers for each prompt.
};

class CompletionWriter : public OpenAiWriter {
 public:
  CompletionWriter(OpenAiFrame frame, CompletionFormat format)
      : OpenAiWriter(std::move(frame)), format_(std::move(format)) {}

  void add_prompt(std::size_t prompt, std::vector<generation::SampledToken> tokens) override {
    std::ranges::move(tokens, std::back_inserter(format_.prompts[prompt].scored));
  }

  void write_tokens(std::size_t index, const SequenceAnswer& answer, std::span<const TextToken> tokens,
                    std::string& body) override {
    const bool failed = answer.finish == generation::FinishReason::kError;
    const auto reason = failed ? std::nullopt : answer.finish;
    if (reason || format_.log_probs ||
        std::ranges::any_of(tokens, [](const auto& t) { return !t.text.empty(); })) {
      append_chunk(index, tokens, reason, body);
    }
    if (failed) write_finish(index, answer, body);
  }

 protected:
  void append_choice(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    fmt::format_to(std::back_inserter(body), "{{\"index\":{},\"text\":", index);
    const ShownPrompt& prompt = prompt_of(index);
    append_json_string(body, format_.echo ? prompt.text + answer.text : answer.text);
    std::size_t offset = 0;
    append_log_probs(format_.echo ? &prompt : nullptr, answer.tokens, offset, body);
    append_reason(answer.finish, body);
    if (format_.prompt_log_probs) {
      body += ",\"prompt_logprobs\":";
      append_prompt_log_probs(body, format_.tokenizer.get(), prompt.scored);
    }
    body += '}';
  }

  void write_end(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    append_chunk(index, {}, answer.finish, body);
  }

 private:
  /// What a stream has sent of a sequence.
  struct Sent {
    bool echo = false;
    std::size_t offset = 0;  ///< Code points of text.
  };

  /// The lists of "logprobs".
  struct Lists {
    std::string tokens, log_probs, top, offsets;
  };

  const ShownPrompt& prompt_of(std::size_t index) const { return format_.prompts[index / format_.n]; }

  void append_chunk(std::size_t index, std::span<const TextToken> tokens,
                    std::optional<generation::FinishReason> reason, std::string& body) {
    if (index >= sent_.size()) sent_.resize(index + 1);
    Sent& sent = sent_[index];
    const ShownPrompt* echo = !std::exchange(sent.echo, true) && format_.echo ? &prompt_of(index) : nullptr;
    std::string text = echo == nullptr ? std::string() : echo->text;
    for (const TextToken& token : tokens) text += token.text;
    begin_chunk(index, body);
    body += ",\"text\":";
    append_json_string(body, text);
    append_log_probs(echo, tokens, sent.offset, body);
    append_reason(reason, body);
    end_chunk(body);
  }

  static void append_reason(std::optional<generation::FinishReason> reason, std::string& body) {
    body += ",\"finish_reason\":";
    if (reason) {
      append_json_string(body, openai_finish_reason(*reason));
    } else {
      body += "null";
    }
  }

  /// Appends "logprobs": of the tokens of `echo`, where it is not null, and of those whose text begins at
  /// `offset`, which moves on.
  void append_log_probs(const ShownPrompt* echo, std::span<const TextToken> tokens, std::size_t& offset,
                        std::string& body) const {
    body += ",\"logprobs\":";
    if (!format_.log_probs) {
      body += "null";
      return;
    }
    Lists lists;
    if (echo != nullptr) append_prompt(*echo, offset, lists);
    for (const TextToken& token : tokens) {
      const std::size_t at = offset;
      offset += text::count_code_points(token.text);
      if (token.token.token.id == kNoToken) continue;  // Text without a token.
      append_entry(token.token, true, at, lists);
    }
    fmt::format_to(std::back_inserter(body),
                   "{{\"tokens\":[{}],\"token_logprobs\":[{}],\"top_logprobs\":[{}],\"text_offset\":[{}]}}",
                   lists.tokens, lists.log_probs, lists.top, lists.offsets);
  }

  void append_prompt(const ShownPrompt& prompt, std::size_t& offset, Lists& lists) const {
    for (std::size_t i = 0; i < prompt.tokens.size(); ++i) {
      // The first follows nothing, and has no probability.
      const bool scored = i > 0 && i <= prompt.scored.size();
      append_entry(scored ? prompt.scored[i - 1] : prompt.tokens[i].token, scored, offset, lists);
      offset += text::count_code_points(prompt.tokens[i].text);
    }
    // The request's own text, which tokens need not give back as it was.
    offset = text::count_code_points(prompt.text);
  }

  void append_entry(const generation::SampledToken& token, bool scored, std::size_t at, Lists& lists) const {
    for (std::string* list : {&lists.tokens, &lists.log_probs, &lists.top, &lists.offsets}) {
      if (!list->empty()) *list += ',';
    }
    append_json_string(lists.tokens, token_text(format_.tokenizer.get(), token.token.id));
    lists.offsets += std::to_string(at);
    if (scored) {
      append_log_prob(lists.log_probs, token.token.log_prob);
      append_top(token, lists.top);
    } else {
      lists.log_probs += "null";
      lists.top += "null";
    }
  }

  /// Appends the most likely tokens by their text, and in any case the one that was drawn, which goes first.
  /// Of tokens with the same text (halves of characters) only the first can be shown.
  void append_top(const generation::SampledToken& sampled, std::string& out) const {
    std::vector<std::string> names;
    const auto append = [&](const generation::TokenLogProb& token) {
      std::string name = token_text(format_.tokenizer.get(), token.id);
      if (std::ranges::find(names, name) != names.end()) return;
      if (!names.empty()) out += ',';
      append_json_string(out, name);
      out += ':';
      append_log_prob(out, token.log_prob);
      names.push_back(std::move(name));
    };
    out += '{';
    append(sampled.token);
    for (const generation::TokenLogProb& token : sampled.top) append(token);
    out += '}';
  }

  CompletionFormat format_;
  std::vector<Sent> sent_;
};

/// The prompts of a request, as token ids and where they are wanted as text.
class PromptReader {
 public:
  PromptReader(const ServedModel& model, PromptOptions options) : model_(model), options_(options) {}

  std::vector<std::vector<std::int32_t>> read(const Fields& body) {
    const value* prompt = body.find("prompt");
    if (prompt == nullptr) {
      throw FieldError(ErrorKind::kInvalidArgument, "prompt",
                       fmt::format("prompt is missing; it must be {}", kAllowed));
    }
    if (prompt->is_string()) {
      text(*prompt, "prompt");
    } else if (prompt->is_array() && !prompt->get_array().empty()) {
      list(prompt->get_array());
    } else {
      fail_field("prompt", kAllowed, *prompt);
    }
    return std::move(prompts_);
  }

 private:
  static constexpr std::string_view kAllowed =
      "a string, a list of token ids, or a list of 1 to 128 strings or lists of token ids";

  void list(const boost::json::array& items) {
    if (items.front().is_number()) return ids(items, "prompt");
    if (items.size() > kMaxPrompts) fail_field("prompt", kAllowed, items);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::string field = fmt::format("prompt[{}]", i);
      if (items.front().is_string()) {
        text(items[i], field);
      } else if (items[i].is_array()) {
        ids(items[i].get_array(), field);
      } else {
        fail_field(field,
                   items.front().is_array() ? "a list of token ids, as the first"
                                            : "a string or a list of token ids",
                   items[i]);
      }
    }
  }

  void text(const value& found, const std::string& field) {
    if (!found.is_string()) fail_field(field, "a string, as the first", found);
    prompts_.push_back(encode_prompt(model_, std::string_view(found.get_string()), field, options_));
  }

  void ids(const boost::json::array& found, const std::string& field) {
    std::vector<std::int32_t> out;
    out.reserve(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      const auto id = token_id(found[i]);
      if (!id) fail_field(fmt::format("{}[{}]", field, i), "a token id", found[i]);
      out.push_back(*id);
    }
    if (options_.truncate) truncate_prompt(model_, out, static_cast<std::size_t>(*options_.truncate));
    check_prompt(model_, out, field);
    prompts_.push_back(std::move(out));
  }

  static std::optional<std::int32_t> token_id(const value& found) {
    if (!found.is_int64() || found.get_int64() < 0) return std::nullopt;
    if (found.get_int64() > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
    return static_cast<std::int32_t>(found.get_int64());
  }

  const ServedModel& model_;
  PromptOptions options_;
  std::vector<std::vector<std::int32_t>> prompts_;
};

/// The text of each prompt, for echo: as the request has it, or that of its ids.
std::vector<std::string> echo_texts(const Fields& body, const ServedModel& model,
                                    const GenerationPlan& plan) {
  const value& prompt = *body.find("prompt");
  std::vector<std::string> out;
  for (std::size_t i = 0; i < plan.prompts.size(); ++i) {
    const value* given = &prompt;
    if (prompt.is_array() && !prompt.get_array().front().is_number()) given = &prompt.get_array()[i];
    if (given->is_string()) {
      out.emplace_back(given->get_string());
    } else if (model.tokenizer != nullptr) {
      out.push_back(model.tokenizer->decode(plan.prompts[i], plan.text.skip_special_tokens));
    } else {
      throw FieldError(ErrorKind::kUnsupported, "echo",
                       fmt::format("echo must be false: model {} has no tokenizer", model.model->name()));
    }
  }
  return out;
}

/// A prompt's tokens with the text of each.
std::vector<TextToken> text_tokens(const ServedModel& model, std::span<const std::int32_t> ids,
                                   bool skip_special) {
  std::vector<TextToken> out;
  text::StreamingDetokenizer detokenizer(*model.tokenizer, skip_special);
  for (const std::int32_t id : ids) {
    TextToken token;
    token.token.token.id = id;
    token.text = detokenizer.push(id);
    out.push_back(std::move(token));
  }
  return out;
}

std::vector<ShownPrompt> shown_prompts(const Fields& body, const ServedModel& model,
                                       const GenerationPlan& plan, const CompletionFormat& format) {
  std::vector<ShownPrompt> out(plan.prompts.size());
  if (!format.echo) return out;
  std::vector<std::string> texts = echo_texts(body, model, plan);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].text = std::move(texts[i]);
    if (format.log_probs) out[i].tokens = text_tokens(model, plan.prompts[i], plan.text.skip_special_tokens);
  }
  return out;
}

}  // namespace

GenerationPlan read_completion(const boost::json::object& object, const ServedModel& model,
                               const DialectContext& context) {
  const Fields body(object, "");
  OpenAiRequest request = read_openai_request(body, model, kOwnFields);
  body.refuse("suffix", "text is not inserted before other text");
  const auto log_probs = body.integer("logprobs", 0, 20);
  const bool echo = body.boolean("echo").value_or(false);
  // An echoed prompt is part of the text that log-probabilities are wanted of.
  if (echo && log_probs) {
    check_scores_prompts(model, "echo");
    request.prompt_log_probs = std::max(request.prompt_log_probs.value_or(0), *log_probs);
  }
  const bool prompt_log_probs = body.find("prompt_logprobs") != nullptr;
  if (log_probs) request.parameters.set("top_n_tokens", value(*log_probs), "logprobs");

  PromptOptions prompt_options;
  prompt_options.add_special = body.boolean("add_special_tokens").value_or(true);
  prompt_options.truncate = tokens_to_keep(request, model, kDefaultMaxTokens);

  GenerationPlan plan;
  plan.decoder_start = decoder_start(model);
  plan.prompts = PromptReader(model, prompt_options).read(body);
  plan.parameters = resolve_openai(request, model, plan.prompts, kDefaultMaxTokens);
  plan.text = request.text;
  plan.streaming = request.streaming;
  plan.keep_tokens = log_probs.has_value();

  OpenAiFrame frame = openai_frame(request, model, context, "cmpl");
  frame.whole_object = frame.chunk_object = "text_completion";
  for (const auto& prompt : plan.prompts) frame.prompt_tokens += prompt.size();
  CompletionFormat format{.tokenizer = model.tokenizer,
                          .log_probs = log_probs.has_value(),
                          .echo = echo,
                          .prompt_log_probs = prompt_log_probs,
                          .prompts = {},
                          .n = static_cast<std::size_t>(request.n)};
  format.prompts = shown_prompts(body, model, plan, format);
  plan.writer = std::make_unique<CompletionWriter>(std::move(frame), std::move(format));
  return plan;
}

}  // namespace peregrine::api
