// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/sentence_transformers.h"
#include "configuration/model_options.h"
#include "generation/encode.h"
#include "model_info/model_info.h"
#include "serving/limits.h"
#include "text/normalizers.h"

namespace peregrine::api {

struct ServedModel;

/// What turns scores into what a client sees, where he does not say.
enum class ScoreFunction : std::uint8_t { kSoftmax, kSigmoid, kNone };

/// How an encoder's texts are prepared and its vectors read: what its files and options say.
struct EncoderText {
  generation::Pooling pooling = generation::Pooling::kMean;
  bool normalize = true;
  std::optional<std::int64_t> max_tokens;              ///< Below the model's own longest text.
  bool truncates = false;                              ///< Texts are cut without being asked for.
  std::shared_ptr<const text::Normalizer> lower_case;  ///< Null: texts stay as they are.
  std::map<std::string, std::string, std::less<>> prompts;
  std::string default_prompt;
  bool pools_prompt = true;
  std::int64_t token_types = 0;  ///< That the model knows.

  std::vector<std::string> labels;                        ///< Names of the classes, as far as they are known.
  std::optional<ScoreFunction> class_function;            ///< problem_type of config.json.
  ScoreFunction pair_function = ScoreFunction::kSigmoid;  ///< Of a cross-encoder.
  bool any_dimensions = false;           ///< The first part of an embedding is one too (Matryoshka).
  std::vector<std::int64_t> dimensions;  ///< ... of these lengths only.

  std::string label(std::size_t index) const;
  /// A text as the tokenizer gets it, behind a prompt.
  std::string prepared(std::string_view prompt, std::string_view text) const;
  /// Token types as the model takes them: a model that does not tell texts apart (DistilBERT, RoBERTa) gets
  /// none, whatever the tokenizer says; nor are there any where all are 0.
  std::vector<std::int32_t> known_types(std::vector<std::int32_t> types) const;
};

/// Reads config.json and sentence-transformers' files; `options` go first. `tokenizer_truncation` is what
/// Tokenizer::truncation_length says. Throws Error naming the file.
EncoderText read_encoder_text(const model_info::ModelDirectory& directory,
                              const configuration::ModelOptions& options,
                              std::optional<std::size_t> tokenizer_truncation);

/// The pooling of a name that clients and options write: mean, cls, lasttoken (or last).
std::optional<generation::Pooling> pooling_named(std::string_view name);

/// A text or a pair of texts as tokens.
struct EncodeInput {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_types;  ///< Empty where all are 0.
};

/// How a text becomes tokens.
struct EncodeTextOptions {
  std::optional<bool> truncate;            ///< Nothing: as the model does.
  std::optional<std::int64_t> max_tokens;  ///< Cut to so many, if it is cut; at most the model's.
  bool add_special = true;
  std::string prompt;  ///< What stands before the text.
};

/// The longest text that the model takes, in tokens. Throws Error(kOverloaded) while that is not known.
std::int64_t longest_text(const ServedModel& model);

/// The tokens of a text. Throws FieldError for `field`: too long, with the numbers; no tokenizer.
EncodeInput encode_text(const ServedModel& model, std::string_view text, const std::string& field,
                        const EncodeTextOptions& options);

/// The tokens of two texts that are read together.
EncodeInput encode_text_pair(const ServedModel& model, std::string_view first, std::string_view second,
                             const std::string& field, const EncodeTextOptions& options);

/// The same for a text that came as token ids.
EncodeInput encode_ids(const ServedModel& model, const boost::json::array& ids, const std::string& field,
                       const EncodeTextOptions& options);

/// Throws FieldError "model", with what the model can do, where it cannot do this, or option.task says that
/// it is not served for it.
void require_task(const ServedModel& model, configuration::Task wanted);

/// What LMI's {"inputs"} means for this encoder: what option.task says, else classification where there is a
/// classifier, else embedding.
configuration::Task task_of(const ServedModel& model);

}  // namespace peregrine::api
