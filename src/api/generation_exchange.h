// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/errors.h"
#include "api/exchange.h"
#include "api/model_text.h"
#include "api/text_assembler.h"
#include "generation/parameters.h"

namespace peregrine::api {

/// One sequence of an answer, as far as it is known.
struct SequenceAnswer {
  std::vector<TextToken> tokens;  ///< Kept only where the answer is not streamed.
  std::size_t token_count = 0;    ///< Generated tokens, those without text and end tokens included.
  double log_prob_sum = 0;        ///< Of these tokens.
  std::optional<float> score;     ///< Of a hypothesis of a beam search.
  std::string text;
  std::optional<generation::FinishReason> finish;
  std::string error;  ///< Where finish is kError.
};

/// Turns an answer into a dialect's JSON. One for each request; index i of an answer is sequence i % n of
/// prompt i / n.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  /// Content type and headers of a good answer.
  virtual Head head(bool streaming) const = 0;
  virtual ErrorStyle error_style() const = 0;

  /// The next tokens of a prompt with their log-probabilities, from its second token, where the plan's
  /// parameters ask for them: each once, and all before any function below is called for one of the prompt's
  /// sequences.
  virtual void add_prompt(std::size_t prompt, std::vector<generation::SampledToken> tokens) {
    (void)prompt;
    (void)tokens;
  }

  /// The whole answer, where it is not streamed.
  virtual void write_whole(std::span<const SequenceAnswer> answers, std::string& body) = 0;

  /// Streaming: before anything else.
  virtual void begin_stream(std::string& body) { (void)body; }
  /// Streaming: new tokens of one sequence (never none), already counted and in the answer's text; where it
  /// has ended, `answer.finish` is set and these are its last tokens.
  virtual void write_tokens(std::size_t index, const SequenceAnswer& answer,
                            std::span<const TextToken> tokens, std::string& body) = 0;
  /// Streaming: a sequence ended without new tokens in the same breath.
  virtual void write_finish(std::size_t index, const SequenceAnswer& answer, std::string& body) = 0;
  /// Streaming: all sequences have ended.
  virtual void end_stream(std::span<const SequenceAnswer> answers, std::string& body) = 0;
  /// Streaming: the request failed after the answer had begun.
  virtual void write_stream_error(const core::Error& error, std::string& body) = 0;
};

/// What a dialect has read from a request.
struct GenerationPlan {
  std::vector<std::vector<std::int32_t>> prompts;  ///< One or more, none empty.
  /// Where set, the prompts are for an encoder, and each answer begins with this token.
  std::optional<std::int32_t> decoder_start{};
  generation::Parameters parameters;  ///< For each prompt; resolved. Stop strings of beams are added.
  /// Whether sampled sequences are returned in the order of their log-probability per token, also where all
  /// of them are. Only where the answer is not streamed.
  bool best_first = false;
  TextOptions text;
  bool streaming = false;
  bool keep_tokens = false;  ///< Whether write_whole needs the tokens (details, log-probabilities).
  std::unique_ptr<AnswerWriter> writer;
};

/// For the access log.
struct RequestLog {
  std::string request_id;
  std::string model;
  std::size_t prompt_tokens = 0;
  std::size_t generated_tokens = 0;
  double queued_seconds = 0;
  double first_token_seconds = 0;
};

/// Submits a plan's prompts and answers as they come. Where a sequence meets a stop string it is over for the
/// client at once, and when all are, the engine is told to stop. Of more sequences than are to be returned
/// (best_of), those with the highest log-probability per token of what is left behind the stop strings' cuts
/// are chosen. `log` is kept up to date. Throws what Model::generate throws; nothing has been submitted then.
std::unique_ptr<Exchange> start_generation(const ServedModel& model, GenerationPlan plan,
                                           const std::string& request_id, std::shared_ptr<RequestLog> log,
                                           std::function<void()> wake);

}  // namespace peregrine::api
