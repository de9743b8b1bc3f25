// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include "core/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace peregrine::text {

struct ChatTemplate::Program {
  jinja::Syntax syntax;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}

ChatTemplate::~ChatTemplate() = default;

std::unique_ptr<const ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view where) {
  auto program = std::make_unique<Program>();
  program->syntax = jinja::Parser(source, std::string(where)).parse();
  return std::unique_ptr<const ChatTemplate>(new ChatTemplate(std::move(program)));
}

std::string ChatTemplate::render(const boost::json::object& variables, std::int64_t now) const {
  jinja::Interpreter interpreter(program_->syntax, now);
  try {
    return interpreter.run(variables);
  } catch (const jinja::Failure& failure) {
    if (failure.own_words()) throw core::Error(failure.kind(), failure.what());
    core::fail(failure.kind(), "{}: line {}: {}", program_->syntax.where, interpreter.line(), failure.what());
  }
}

}  // namespace peregrine::text
