// SPDX-License-Identifier: Apache-2.0
#include <boost/json/object.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "text/model_template.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;

struct RenderFlags {
  std::string source;
  std::vector<std::string> variables;
  std::optional<std::int64_t> now;
  bool json = false;
};

/// "name=JSON", each.
boost::json::object parse_variables(const std::vector<std::string>& settings) {
  boost::json::object variables;
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      core::fail(ErrorKind::kInvalidArgument, "--var {}: must be name=JSON", core::quoted(setting));
    }
    const std::string name = setting.substr(0, equals);
    variables[name] = core::parse_json(setting.substr(equals + 1), "--var " + name);
  }
  return variables;
}

/// The templates of a model's directory, or the one of a file.
text::ModelTemplate load(const std::string& source) {
  constexpr std::uint64_t kMaxTemplateFile = std::uint64_t{1} << 20;
  if (std::filesystem::is_directory(source)) {
    if (auto model = text::load_model_template(source, "")) return *model;
    core::fail(
        ErrorKind::kNotFound,
        "{} has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json",
        source);
  }
  return {{{"default", text::ChatTemplate::parse(core::read_file(source, kMaxTemplateFile), source)}}, {}};
}

void render(const RenderFlags& flags) {
  const text::ModelTemplate model = load(flags.source);
  const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
  const auto document = core::parse_json(input, "standard input");
  if (!document.is_object()) core::JsonView(document, "standard input").fail_expected("an object");
  boost::json::object request = document.get_object();
  for (const auto& [name, value] : parse_variables(flags.variables)) request.insert_or_assign(name, value);
  const auto clock = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t now =
      flags.now.value_or(std::chrono::duration_cast<std::chrono::seconds>(clock).count());
  std::string prompt = model.render(request, now);
  if (flags.json) prompt = "{\"prompt\":" + json_string(prompt) + "}\n";
  if (std::fwrite(prompt.data(), 1, prompt.size(), stdout) != prompt.size())
    core::fail(ErrorKind::kInternal, "cannot write to standard output");
}

}  // namespace

void add_render(CLI::App& app) {
  auto flags = std::make_shared<RenderFlags>();
  CLI::App* command = app.add_subcommand(
      "render",
      "A chat request to the prompt that the model's chat template makes of it: a JSON object with "
      "\"messages\" (and \"tools\", \"add_generation_prompt\", \"continue_final_message\", "
      "\"chat_template_kwargs\" or other variables) on standard input, the prompt on standard output");
  command->add_option("source", flags->source, "Hugging Face model directory, or a file with a chat template")
      ->required();
  command
      ->add_option("--var", flags->variables,
                   "A variable of the template, name=JSON, e.g. bos_token='\"<s>\"' (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--now", flags->now, "The time for strftime_now, in seconds since 1970 (default: now)");
  command->add_flag("--json", flags->json, "Write {\"prompt\": ...}");
  command->callback([flags] { render(*flags); });
}

}  // namespace peregrine::cli
