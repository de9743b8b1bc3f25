// SPDX-License-Identifier: Apache-2.0
#include "api/prediction_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "api/json_output.h"

namespace peregrine::api {
namespace {

class PredictionWriter : public AnswerWriter {
 public:
  explicit PredictionWriter(PredictionFormat format) : format_(std::move(format)) {}

  Head head(bool streaming) const override {
    Head head;
    head.content_type = "application/json";
    if (streaming) {
      head.content_type = format_.server_sent_events ? "text/event-stream" : "application/jsonlines";
    }
    return head;
  }

  ErrorStyle error_style() const override { return ErrorStyle::kInference; }

  void add_prompt(std::size_t prompt, std::vector<generation::SampledToken> tokens) override {
    (void)prompt;
    std::ranges::move(tokens, std::back_inserter(prompt_));
  }

  void write_whole(std::span<const SequenceAnswer> answers, std::string& body) override {
    body += '{';
    append_text(answers.front(), body);
    if (format_.details) {
      body += ",\"details\":{";
      append_ending(answers.front(), body);
      body += ",\"inputs\":";
      append_json_string(body, format_.inputs);
      body += ',';
      if (!format_.prefill.empty()) append_prefill(body);
      append_tokens(answers.front(), body);
      if (answers.size() > 1) append_others(answers.subspan(1), body);
      body += '}';
    }
    body += "}\n";
  }

  void write_tokens(std::size_t index, const SequenceAnswer& answer, std::span<const TextToken> tokens,
                    std::string& body) override {
    (void)index;
    for (const TextToken& token : tokens) {
      begin_line(body);
      body += "{\"token\":";
      append_token(token.token.token, token.text, token.special, body);
      append_top_of_line(token, body);
      if (answer.finish && &token == &tokens.back()) append_end(answer, body);
      end_line(body);
    }
  }

  void write_finish(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    (void)index;
    // Every line has a token; where a stop string took all that was left, it is one without text.
    begin_line(body);
    body += R"({"token":{"id":-1,"text":"","log_prob":null,"special_token":true})";
    append_end(answer, body);
    end_line(body);
  }

  void end_stream(std::span<const SequenceAnswer> answers, std::string& body) override {
    (void)answers;
    (void)body;
  }

  void write_stream_error(const core::Error& error, std::string& body) override {
    begin_line(body);
    body += error_json(error, ErrorStyle::kInference);
    body += format_.server_sent_events ? "\n\n" : "\n";
  }

 private:
  void begin_line(std::string& body) const {
    if (format_.server_sent_events) body += "data: ";
  }

  void end_line(std::string& body) const { body += format_.server_sent_events ? "}\n\n" : "}\n"; }

  void append_text(const SequenceAnswer& answer, std::string& body) const {
    body += "\"generated_text\":";
    append_json_string(body, format_.full_text ? format_.inputs + answer.text : answer.text);
  }

  void append_ending(const SequenceAnswer& answer, std::string& body) const {
    body +=
        fmt::format("\"finish_reason\":\"{}\",\"generated_tokens\":{}",
                    to_string(answer.finish.value_or(generation::FinishReason::kError)), answer.token_count);
    if (answer.score) {
      body += ",\"score\":";
      append_json_number(body, *answer.score);
    }
    if (format_.cumulative_log_probs) {
      body += ",\"cum_log_probs\":";
      append_json_number(body, static_cast<float>(answer.log_prob_sum));
    }
  }

  /// What the last line of a stream has beside its token.
  void append_end(const SequenceAnswer& answer, std::string& body) const {
    body += ',';
    append_text(answer, body);
    if (!format_.details) return;
    body += ",\"details\":{";
    append_ending(answer, body);
    body += ",\"inputs\":";
    append_json_string(body, format_.inputs);
    body += '}';
  }

  static void append_token(const generation::TokenLogProb& token, std::string_view text, bool special,
                           std::string& body) {
    body += fmt::format("{{\"id\":{},\"text\":", token.id);
    append_json_string(body, text);
    body += ",\"log_prob\":";
    append_json_number(body, token.log_prob);
    if (special) body += ",\"special_token\":true";
    body += '}';
  }

  /// "prefill", with a comma behind it: the first token of a prompt has no probability.
  void append_prefill(std::string& body) const {
    body += "\"prefill\":[";
    for (std::size_t i = 0; i < format_.prefill.size(); ++i) {
      if (i > 0) body += ',';
      const bool known = i > 0 && i <= prompt_.size();
      const auto token =
          known ? prompt_[i - 1].token
                : generation::TokenLogProb{format_.prefill[i], -std::numeric_limits<float>::infinity()};
      append_token(token, body);
    }
    body += "],";
    if (!format_.prefill_top_tokens) return;
    body += "\"prefill_top_tokens\":[[]";
    for (const generation::SampledToken& token : prompt_) {
      body += ',';
      append_top(token.top, body);
    }
    body += "],";
  }

  /// "tokens", and "top_tokens" where they were asked for.
  void append_tokens(const SequenceAnswer& answer, std::string& body) const {
    body += "\"tokens\":[";
    for (std::size_t i = 0; i < answer.tokens.size(); ++i) {
      const TextToken& token = answer.tokens[i];
      if (i > 0) body += ',';
      append_token(token.token.token, token.text, token.special, body);
    }
    body += ']';
    if (!format_.top_tokens) return;
    body += ",\"top_tokens\":[";
    for (std::size_t i = 0; i < answer.tokens.size(); ++i) {
      if (i > 0) body += ',';
      append_top(answer.tokens[i].token.top, body);
    }
    body += ']';
  }

  /// The alternatives of one position.
  void append_top(std::span<const generation::TokenLogProb> top, std::string& body) const {
    body += '[';
    for (std::size_t i = 0; i < top.size(); ++i) {
      if (i > 0) body += ',';
      append_token(top[i], body);
    }
    body += ']';
  }

  /// A token by itself.
  void append_token(const generation::TokenLogProb& token, std::string& body) const {
    const std::array<std::int32_t, 1> ids = {token.id};
    const bool special = format_.tokenizer && format_.tokenizer->is_special(token.id);
    append_token(token, format_.tokenizer ? format_.tokenizer->decode(ids, false) : "", special, body);
  }

  void append_top_of_line(const TextToken& token, std::string& body) const {
    if (!format_.top_tokens) return;
    body += ",\"top_tokens\":";
    append_top(token.token.top, body);
  }

  void append_others(std::span<const SequenceAnswer> others, std::string& body) const {
    body += ",\"best_of_sequences\":[";
    for (std::size_t i = 0; i < others.size(); ++i) {
      body += i > 0 ? ",{" : "{";
      append_text(others[i], body);
      body += ',';
      append_ending(others[i], body);
      body += ',';
      append_tokens(others[i], body);
      body += '}';
    }
    body += ']';
  }

  PredictionFormat format_;
  std::vector<generation::SampledToken> prompt_;  ///< From its second token.
};

}  // namespace

std::unique_ptr<AnswerWriter> make_prediction_writer(PredictionFormat format) {
  return std::make_unique<PredictionWriter>(std::move(format));
}

}  // namespace peregrine::api
