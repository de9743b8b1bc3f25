// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/dialects.h"
#include "api/generation_exchange.h"
#include "api/json_fields.h"

// What OpenAI's two dialects, completions and chat completions, have in common: the fields that both read and
// the frame of both answers. Fields are OpenAI's, and beside them those that vLLM adds.

namespace peregrine::api {

/// What both kinds of request say.
struct OpenAiRequest {
  ParameterFields parameters;
  TextOptions text;
  bool streaming = false;
  bool include_usage = false;  ///< Streaming: a last chunk with usage.
  std::int64_t n = 1;          ///< Sequences for each prompt that are returned.
  /// vLLM's prompt_logprobs: each token of the prompt with its log-probability and so many of the most
  /// likely.
  std::optional<std::int64_t> prompt_log_probs;
  /// The tokens of a prompt that are kept (PromptOptions::truncate); -1: as many as leave room for the
  /// answer.
  std::optional<std::int64_t> truncate;
  std::optional<std::int64_t> max_tokens;
  std::string max_tokens_field = "max_tokens";
};

/// Reads the common fields, and logs those that are neither common nor in `others`, which are the dialect's
/// own. Throws FieldError; Error(kOverloaded) while the model's limits are not known.
OpenAiRequest read_openai_request(const Fields& body, const ServedModel& model,
                                  std::span<const std::string_view> others);

/// How many of its tokens a prompt keeps at most; nothing where it is not cut.
std::optional<std::int64_t> tokens_to_keep(const OpenAiRequest& request, const ServedModel& model,
                                           std::int64_t default_max_tokens);

/// The parameters of the request for these prompts. Where it does not say how many tokens it wants, it gets
/// `default_max_tokens`, or where that is nothing, as many as the context has room for. Throws FieldError,
/// also where prompt and max_tokens together are beyond the context.
generation::Parameters resolve_openai(OpenAiRequest& request, const ServedModel& model,
                                      std::span<const std::vector<std::int32_t>> prompts,
                                      std::optional<std::int64_t> default_max_tokens);

/// "stop", "length", ...
std::string_view openai_finish_reason(generation::FinishReason reason);

/// A token by itself, as log-probabilities name it. Half a character is U+FFFD, as in vLLM.
std::string token_text(const text::Tokenizer* tokenizer, std::int32_t id);

/// Appends a log-probability; minus infinity, which JSON cannot write, becomes -9999 as in vLLM.
void append_log_prob(std::string& out, float log_prob);

/// Appends vLLM's list of a prompt's log-probabilities: null for its first token, then for each of `tokens`
/// an object {"ID": {"logprob", "rank", "decoded_token"}}, where a token that is not among the most likely
/// ones asked for has a null rank.
void append_prompt_log_probs(std::string& out, const text::Tokenizer* tokenizer,
                             std::span<const generation::SampledToken> tokens);

/// What stands around the choices of an answer.
struct OpenAiFrame {
  std::string id;
  std::string_view whole_object;  ///< "chat.completion"; valid for ever, as the next.
  std::string_view chunk_object;  ///< "chat.completion.chunk"
  std::int64_t created = 0;
  std::string model;
  std::size_t prompt_tokens = 0;  ///< Of all prompts, each counted once.
  bool server_sent_events = false;
  bool include_usage = false;
};

/// Frame of `request`, for an answer with the id "PREFIX-request id".
OpenAiFrame openai_frame(const OpenAiRequest& request, const ServedModel& model,
                         const DialectContext& context, std::string_view prefix);

/// The writer of both dialects, but for what a choice looks like.
class OpenAiWriter : public AnswerWriter {
 public:
  explicit OpenAiWriter(OpenAiFrame frame);

  Head head(bool streaming) const override;
  ErrorStyle error_style() const override { return ErrorStyle::kOpenAi; }
  void write_whole(std::span<const SequenceAnswer> answers, std::string& body) override;
  void write_finish(std::size_t index, const SequenceAnswer& answer, std::string& body) override;
  void end_stream(std::span<const SequenceAnswer> answers, std::string& body) override;
  void write_stream_error(const core::Error& error, std::string& body) override;

 protected:
  /// Appends further members of a whole answer, each with a comma before it.
  virtual void append_members(std::string& body) { (void)body; }
  /// Appends the choice of a whole answer.
  virtual void append_choice(std::size_t index, const SequenceAnswer& answer, std::string& body) = 0;
  /// Appends the chunks that end a sequence; its finish is set, and not kError.
  virtual void write_end(std::size_t index, const SequenceAnswer& answer, std::string& body) = 0;

  /// A chunk with one choice stands between these two.
  void begin_chunk(std::size_t index, std::string& body) const;  ///< Up to and with "index".
  void end_chunk(std::string& body) const;                       ///< From the end of the choice.

 private:
  void append_usage(std::span<const SequenceAnswer> answers, std::string& body) const;
  void begin_event(std::string& body) const;
  void end_event(std::string& body) const;
  void end_events(std::string& body) const;
  /// {"id":...,"choices":[
  std::string begin_object(std::string_view object) const;

  OpenAiFrame frame_;
  std::string chunk_begin_;
};

}  // namespace peregrine::api
