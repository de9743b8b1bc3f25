// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "api/model_text.h"
#include "generation/parameter_set.h"
#include "generation/parameters.h"

// What the dialects share in reading requests. Everything here throws FieldError with the path of the field
// as the client wrote it: "parameters.max_new_tokens", "messages[2].content".

namespace peregrine::api {

/// The members of one JSON object of a request. Getters give nothing (or null) where a member is missing or
/// null. Non-owning: the object must outlive it.
class Fields {
 public:
  /// `path` is where the object stands: empty for the body itself, "parameters", "messages[2]".
  Fields(const boost::json::object& object, std::string path) : object_(&object), path_(std::move(path)) {}

  const boost::json::object& json() const { return *object_; }
  /// The path of a member: "parameters.top_p", or "top_p" in the body itself.
  std::string path(std::string_view name) const;

  /// The member as it is.
  const boost::json::value* find(std::string_view name) const;
  /// true or false; also the strings "true" and "false" in any case, which LMI's clients send.
  std::optional<bool> boolean(std::string_view name) const;
  /// An integer in [low, high]; 4.0 counts as one.
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high) const;
  /// A finite number in [low, high].
  std::optional<double> number(std::string_view name, double low, double high) const;
  std::optional<std::string_view> string(std::string_view name) const;
  /// One of `allowed`.
  std::optional<std::string_view> one_of(std::string_view name,
                                         std::span<const std::string_view> allowed) const;
  const boost::json::object* object(std::string_view name) const;
  /// A list of at most `most` elements.
  const boost::json::array* array(std::string_view name, std::size_t most) const;

  /// Refuses a field that is not supported and would change the answer: throws kUnsupported "FIELD is not
  /// supported yet (WHY); leave it out" where it is given and neither null, false, 0, "", [] nor {}.
  void refuse(std::string_view name, std::string_view why) const;

 private:
  const boost::json::object* object_;
  std::string path_;
};

/// Logs that a field was passed over: a warning, once for each name and model.
void log_unknown_field(const ServedModel& model, std::string_view field);

/// Limits of stop strings.
inline constexpr std::size_t kMaxStopStrings = 64;
inline constexpr std::size_t kMaxStopBytes = 1024;

/// Appends the stop strings of a field that holds one string or a list of at most kMaxStopStrings, none empty
/// or above kMaxStopBytes. `stop` as a whole is held to kMaxStopStrings too.
void read_stop_strings(const Fields& fields, std::string_view name, std::vector<std::string>& stop);

/// Refuses `field`, the last that added to them, where there are more than kMaxStopStrings.
void check_stop_strings(std::span<const std::string> stop, const std::string& field);

/// The parameters of generation that one request sets (generation::ParameterSet), each with the name of the
/// client's field, so that errors speak the client's language.
class ParameterFields {
 public:
  /// Sets the parameter `name` (or an alias) from the field `field`; null is absent. Returns false where
  /// there is no such parameter. Throws FieldError for `field`.
  bool set(std::string_view name, const boost::json::value& value, std::string field);

  /// Applies them over the model's defaults, for a prompt of `prompt_size` tokens (the longest, where there
  /// are several), and bounds max_new_tokens by what the context has left: of an encoder-decoder, all but the
  /// token that its answer begins with. Throws FieldError; Error (kOverloaded) while the model's limits are
  /// not known.
  generation::Parameters resolve(const ServedModel& model, std::size_t prompt_size) const;

  /// The client's field for a parameter by its own name; that name where the client did not set it.
  std::string field_of(std::string_view parameter) const;
  /// Whether the client set a parameter, by its own name.
  bool has(std::string_view parameter) const { return fields_.contains(parameter); }

  /// Refuses a streamed answer that is known only at its end: of a beam search, or of a choice among more
  /// sequences than are returned.
  void check_streamed(const generation::Parameters& resolved) const;

 private:
  [[noreturn]] void rethrow(const core::Error& error, std::string_view field) const;

  generation::ParameterSet set_;
  std::map<std::string, std::string, std::less<>> fields_;  ///< Field by the parameter's own name.
};

/// How a text becomes a prompt.
struct PromptOptions {
  bool add_special = true;    ///< Add the model's tokens around it; a rendered chat template has its own.
  bool parse_special = true;  ///< Recognize special tokens that are written out.
  /// Keep only so many tokens: the last ones, or for an encoder the first ones and what ends a text.
  std::optional<std::int64_t> truncate;
};

/// The token with which the answers of an encoder-decoder begin; nothing for other models. Throws
/// Error(kUnsupported) where the model's files do not say.
std::optional<std::int32_t> decoder_start(const ServedModel& model);

/// Refuses `field` for an encoder-decoder: its text has no log-probabilities.
void check_scores_prompts(const ServedModel& model, const std::string& field);

/// The tokens of a prompt, one or more, few enough for the context to have room for one more (for an encoder:
/// few enough for the context). Throws FieldError for `field` with the numbers; a text that is far too long
/// is refused before it is tokenized.
std::vector<std::int32_t> encode_prompt(const ServedModel& model, std::string_view text,
                                        const std::string& field, const PromptOptions& options);

/// Checks a prompt that came as token ids in the same way.
void check_prompt(const ServedModel& model, std::span<const std::int32_t> ids, const std::string& field);

/// Cuts a prompt that came as token ids to `most` of them.
void truncate_prompt(const ServedModel& model, std::vector<std::int32_t>& ids, std::size_t most);

}  // namespace peregrine::api
