// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <utility>

#include "api/json_output.h"
#include "api/openai_common.h"
#include "text/unicode.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using core::ErrorKind;

constexpr std::int64_t kDefaultMaxTokens = 16;  // OpenAI's.
constexpr std::size_t kMaxPrompts = 128;

constexpr auto kOwnFields =
    std::to_array<std::string_view>({"prompt", "logprobs", "echo", "suffix", "add_special_tokens"});

class CompletionWriter : public OpenAiWriter {
 public:
  /// `echo`: the text of each prompt, which stands before each of its answers; empty: none does.
  CompletionWriter(OpenAiFrame frame, std::shared_ptr<const text::Tokenizer> tokenizer, bool log_probs,
                   std::vector<std::string> echo, std::size_t n)
      : OpenAiWriter(std::move(frame)),
        tokenizer_(std::move(tokenizer)),
        log_probs_(log_probs),
        echo_(std::move(echo)),
        n_(n) {}

  void write_tokens(std::size_t index, const SequenceAnswer& answer, std::span<const TextToken> tokens,
                    std::string& body) override {
    const bool failed = answer.finish == generation::FinishReason::kError;
    const auto reason = failed ? std::nullopt : answer.finish;
    if (reason || log_probs_ || std::ranges::any_of(tokens, [](const auto& t) { return !t.text.empty(); })) {
      append_chunk(index, tokens, reason, body);
    }
    if (failed) write_finish(index, answer, body);
  }

 protected:
  void append_choice(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    fmt::format_to(std::back_inserter(body), "{{\"index\":{},\"text\":", index);
    append_json_string(body, echo_.empty() ? answer.text : echo_[index / n_] + answer.text);
    std::size_t offset = 0;
    append_log_probs(answer.tokens, offset, body);
    append_reason(answer.finish, body);
    body += '}';
  }

  void write_end(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    append_chunk(index, {}, answer.finish, body);
  }

 private:
  /// What a stream has sent of a sequence.
  struct Sent {
    bool echo = false;
    std::size_t offset = 0;  ///< Code points of generated text.
  };

  void append_chunk(std::size_t index, std::span<const TextToken> tokens,
                    std::optional<generation::FinishReason> reason, std::string& body) {
    if (index >= sent_.size()) sent_.resize(index + 1);
    Sent& sent = sent_[index];
    std::string text;
    if (!sent.echo && !echo_.empty()) text = echo_[index / n_];
    sent.echo = true;
    for (const TextToken& token : tokens) text += token.text;
    begin_chunk(index, body);
    body += ",\"text\":";
    append_json_string(body, text);
    append_log_probs(tokens, sent.offset, body);
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

  /// Appends "logprobs" of tokens whose text begins at `offset`, and moves that on.
  void append_log_probs(std::span<const TextToken> tokens, std::size_t& offset, std::string& body) const {
    body += ",\"logprobs\":";
    if (!log_probs_) {
      body += "null";
      return;
    }
    std::string names;
    std::string values;
    std::string top;
    std::string offsets;
    for (const TextToken& token : tokens) {
      const std::size_t at = offset;
      offset += text::count_code_points(token.text);
      if (token.token.token.id == kNoToken) continue;  // Text without a token.
      for (std::string* list : {&names, &values, &top, &offsets}) {
        if (!list->empty()) *list += ',';
      }
      append_json_string(names, token_text(tokenizer_.get(), token.token.token.id));
      append_log_prob(values, token.token.token.log_prob);
      append_top(token.token, top);
      offsets += std::to_string(at);
    }
    fmt::format_to(std::back_inserter(body),
                   "{{\"tokens\":[{}],\"token_logprobs\":[{}],\"top_logprobs\":[{}],\"text_offset\":[{}]}}",
                   names, values, top, offsets);
  }

  /// Appends the most likely tokens by their text, and in any case the one that was drawn, which goes first.
  /// Of tokens with the same text (halves of characters) only the first can be shown.
  void append_top(const generation::SampledToken& sampled, std::string& out) const {
    std::vector<std::string> names;
    const auto append = [&](const generation::TokenLogProb& token) {
      std::string name = token_text(tokenizer_.get(), token.id);
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

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  bool log_probs_;
  std::vector<std::string> echo_;
  std::size_t n_;
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
    const std::size_t keep = options_.truncate ? static_cast<std::size_t>(*options_.truncate) : found.size();
    const std::size_t first = found.size() > keep ? found.size() - keep : 0;
    // Longer ones are refused below whatever they hold.
    const auto most =
        static_cast<std::size_t>(std::max<std::int64_t>(model_.model->limits().max_model_length, 1));
    for (std::size_t i = 0; i < found.size(); ++i) {
      const auto id = token_id(found[i]);
      if (!id) fail_field(fmt::format("{}[{}]", field, i), "a token id", found[i]);
      if (i >= first && out.size() <= most) out.push_back(*id);
    }
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

}  // namespace

GenerationPlan read_completion(const boost::json::object& object, const ServedModel& model,
                               const DialectContext& context) {
  const Fields body(object, "");
  OpenAiRequest request = read_openai_request(body, model, kOwnFields);
  body.refuse("suffix", "text is not inserted before other text");
  const auto log_probs = body.integer("logprobs", 0, 20);
  const bool echo = body.boolean("echo").value_or(false);
  if (echo && log_probs) {
    throw FieldError(
        ErrorKind::kUnsupported, "echo",
        "echo together with logprobs is not supported yet: prompts are not scored; leave one out");
  }
  if (log_probs) request.parameters.set("top_n_tokens", value(*log_probs), "logprobs");

  PromptOptions prompt_options;
  prompt_options.add_special = body.boolean("add_special_tokens").value_or(true);
  prompt_options.truncate = tokens_to_keep(request, model, kDefaultMaxTokens);

  GenerationPlan plan;
  plan.prompts = PromptReader(model, prompt_options).read(body);
  plan.parameters = resolve_openai(request, model, plan.prompts, kDefaultMaxTokens);
  plan.text = request.text;
  plan.streaming = request.streaming;
  plan.keep_tokens = log_probs.has_value();

  OpenAiFrame frame = openai_frame(request, model, context, "cmpl");
  frame.whole_object = frame.chunk_object = "text_completion";
  for (const auto& prompt : plan.prompts) frame.prompt_tokens += prompt.size();
  plan.writer = std::make_unique<CompletionWriter>(
      std::move(frame), model.tokenizer, log_probs.has_value(),
      echo ? echo_texts(body, model, plan) : std::vector<std::string>{}, static_cast<std::size_t>(request.n));
  return plan;
}

}  // namespace peregrine::api
