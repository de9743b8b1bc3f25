// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <memory>
#include <string>
#include <string_view>

namespace peregrine::text {

/// A model's chat template: Jinja2 as transformers runs it (sandboxed, trim_blocks, lstrip_blocks, loop
/// controls, the `generation` block, raise_exception, strftime_now, tojson). Immutable and thread-safe.
class ChatTemplate {
 public:
  /// Parses. `where` names the template in messages. Throws Error(kInvalidArgument) with line and column for
  /// what is no Jinja, kUnsupported for what is Jinja but not supported.
  static std::unique_ptr<const ChatTemplate> parse(std::string_view source, std::string_view where);

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  /// Renders with `variables` ("messages", "add_generation_prompt", "bos_token", "tools", ...). `now` is unix
  /// time in seconds, for strftime_now. Throws Error(kInvalidArgument): the template's own message where it
  /// calls raise_exception, else what failed and at which line. Time, output and depth are bounded; beyond
  /// the bound it is an error that names the bound.
  std::string render(const boost::json::object& variables, std::int64_t now) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);
  std::unique_ptr<const Program> program_;
};

}  // namespace peregrine::text
