// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/chat_template.h"

namespace peregrine::text {

/// The chat templates of one model by name ("default", perhaps "tool_use"), and what the model itself gives
/// to them (bos_token, eos_token, ...). Cheap to copy, immutable and thread-safe.
class ModelTemplate {
 public:
  /// `variables` are passed to every rendering; the request's win over them. Throws Error(kInvalidArgument)
  /// where there is no template.
  ModelTemplate(std::map<std::string, std::shared_ptr<const ChatTemplate>, std::less<>> templates,
                boost::json::object variables);

  /// The prompt for a request, whose members are:
  ///
  ///   messages                the conversation, an array of objects; required
  ///   tools, documents        passed on; None (defined, as in transformers) where absent. Where there are
  ///                           tools, the template named "tool_use" is taken, if there is one.
  ///   add_generation_prompt   default: true, but false with continue_final_message
  ///   continue_final_message  default false; true: the prompt ends with the content of the last message, so
  ///                           that generation continues it. Not together with add_generation_prompt.
  ///   chat_template_kwargs    further variables, in an object or null
  ///
  /// and any other member is a variable of that name. `now` is unix time in seconds, for strftime_now.
  /// Throws Error(kInvalidArgument) that names the member, and what ChatTemplate::render throws.
  std::string render(const boost::json::object& request, std::int64_t now) const;

  /// Whether a template that is meant for requests with tools is there.
  bool has_tool_template() const;

  const boost::json::object& variables() const { return *variables_; }

 private:
  const ChatTemplate& pick(bool tools) const;

  std::map<std::string, std::shared_ptr<const ChatTemplate>, std::less<>> templates_;
  std::shared_ptr<const boost::json::object> variables_;
};

/// The template of the model in `model_dir`, or nothing where it has none. In this order:
/// `override_text_or_file` (the operator's choice: a file in `model_dir` or an absolute path, or, where there
/// is no such file and it contains '{', the template itself; empty means none), chat_template.jinja (with the
/// files of additional_chat_templates/), chat_template of tokenizer_config.json. The special tokens are those
/// of tokenizer_config.json, else of special_tokens_map.json.
///
/// Throws Error(kInvalidArgument or kUnsupported) naming the file where one is there and wrong, or where an
/// override leads out of `model_dir`, and kNotFound where an override names no file.
std::optional<ModelTemplate> load_model_template(const std::filesystem::path& model_dir,
                                                 std::string_view override_text_or_file);

}  // namespace peregrine::text
