// SPDX-License-Identifier: Apache-2.0
#include "text/model_template.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "text/jinja/strings.h"

namespace peregrine::text {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using core::ErrorKind;
using jinja::Side;
using Templates = std::map<std::string, std::shared_ptr<const ChatTemplate>, std::less<>>;

constexpr std::uint64_t kMaxTemplateFile = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxConfigFile = std::uint64_t{64} << 20;

/// What tokenizers call their special tokens.
constexpr std::array<std::string_view, 7> kSpecialTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

// ---- The request ----

/// A boolean member of the request; null is absent.
std::optional<bool> flag(const json::object& request, std::string_view name) {
  const json::value* value = request.if_contains(name);
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (!value->is_bool()) core::JsonView(*value, std::string(name)).fail_expected("true or false");
  return value->get_bool();
}

/// The text that the prompt is to end with: the last message's content, or the last text of its parts.
json::string* final_text(json::object& variables) {
  json::array& messages = variables["messages"].get_array();
  json::value* content = nullptr;
  if (!messages.empty() && messages.back().is_object())
    content = messages.back().get_object().if_contains("content");
  if (content != nullptr && content->is_string()) return &content->get_string();
  if (content != nullptr && content->is_array()) {
    json::array& parts = content->get_array();
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      json::value* text = part->is_object() ? part->get_object().if_contains("text") : nullptr;
      if (text != nullptr && text->is_string()) return &text->get_string();
    }
  }
  core::fail(ErrorKind::kInvalidArgument,
             "continue_final_message: the last message has no text content to continue");
}

/// `prompt` up to the end of the last message's content: behind the last place where the stripped `content`
/// is, with its trailing white space where the template kept it.
std::string cut_behind(std::string prompt, std::string_view content) {
  const std::string_view stripped = jinja::strip(content, Side::kBoth);
  const std::size_t at = jinja::find_last(prompt, stripped);
  if (at == jinja::kNotFound) {
    core::fail(
        ErrorKind::kInvalidArgument,
        "continue_final_message: the last message's content is not in the prompt that the chat template "
        "gives; the template changes or drops it");
  }
  const std::string_view with_end = jinja::strip(content, Side::kLeft);
  const bool kept = std::string_view(prompt).substr(at).starts_with(with_end);
  prompt.resize(at + (kept ? with_end.size() : stripped.size()));
  return prompt;
}

std::string render_open_end(const ChatTemplate& chat_template, json::object variables, std::int64_t now) {
  json::string& text = *final_text(variables);
  const std::string content(text);
  if (!jinja::strip(content, Side::kBoth).empty())
    return cut_behind(chat_template.render(variables, now), content);
  // Where there is nothing to find, a mark shows the place.
  constexpr std::string_view kMark = "peregrine-continues-here";
  text = kMark;
  std::string prompt = cut_behind(chat_template.render(variables, now), kMark);
  prompt.resize(prompt.size() - kMark.size());
  return prompt;
}

/// The template's variables: the model's, then the request's, then those of chat_template_kwargs.
json::object variables_of(const json::object& model, const json::object& request) {
  json::object variables = model;
  for (const auto& [name, value] : request) variables.insert_or_assign(name, value);
  variables.erase("continue_final_message");
  variables.erase("chat_template_kwargs");
  if (const json::value* more = request.if_contains("chat_template_kwargs");
      more != nullptr && !more->is_null()) {
    for (const auto& [name, value] : core::JsonView(*more, "chat_template_kwargs").members()) {
      if (name == "messages" || name == "tools" || name == "documents" || name == "continue_final_message")
        core::fail(ErrorKind::kInvalidArgument, "chat_template_kwargs: '{}' belongs into the request itself",
                   name);
      variables.insert_or_assign(name, value.value());
    }
  }
  return variables;
}

// ---- The model ----

std::shared_ptr<const ChatTemplate> parse(std::string_view source, const std::string& where) {
  return ChatTemplate::parse(source, where);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::optional<json::value> read_json(const fs::path& path) {
  if (!is_there(path)) return std::nullopt;
  return core::parse_json(core::read_file(path, kMaxConfigFile), path.string());
}

/// The special tokens of one file, each a string or an object with its "content"; those already there stay.
void add_special_tokens(const std::optional<json::value>& file, const fs::path& path,
                        json::object& variables) {
  if (!file) return;
  const core::JsonView root(*file, path.string());
  for (const std::string_view name : kSpecialTokens) {
    const auto token = root.find(name);
    if (!token || variables.contains(name)) continue;
    variables[name] = (token->is_object() ? token->at("content") : *token).as_string();
  }
}

/// chat_template of tokenizer_config.json: the text, or a list of {name, template}.
Templates templates_of_config(const std::optional<json::value>& config, const fs::path& path) {
  Templates templates;
  if (!config) return templates;
  const auto entry = core::JsonView(*config, path.string()).find("chat_template");
  if (!entry) return templates;
  if (!entry->is_array()) {
    templates["default"] = parse(entry->as_string(), entry->where());
    return templates;
  }
  for (const core::JsonView& item : entry->items()) {
    const auto source = item.at("template");
    templates[std::string(item.at("name").as_string())] = parse(source.as_string(), source.where());
  }
  return templates;
}

Templates templates_of_files(const fs::path& model_dir) {
  Templates templates;
  const fs::path main = model_dir / "chat_template.jinja";
  if (is_there(main)) templates["default"] = parse(core::read_file(main, kMaxTemplateFile), main.string());
  const fs::path others = model_dir / "additional_chat_templates";
  std::error_code none;
  for (const auto& file : fs::directory_iterator(others, none)) {
    if (file.path().extension() != ".jinja") continue;
    templates[file.path().stem().string()] =
        parse(core::read_file(file.path(), kMaxTemplateFile), file.path().string());
  }
  return templates;
}

/// Whether `path`, which is relative, stays below the folder it is relative to.
bool stays_inside(const fs::path& path) {
  const fs::path plain = path.lexically_normal();
  return plain.empty() || *plain.begin() != "..";
}

Templates templates_of_override(const fs::path& model_dir, std::string_view text_or_file) {
  constexpr std::size_t kMaxFileName = 4096;
  const bool looks_like_text = text_or_file.find('{') != std::string_view::npos;
  if (text_or_file.size() <= kMaxFileName && text_or_file.find('\0') == std::string_view::npos) {
    const fs::path name(text_or_file);
    const fs::path file = model_dir / name;  // an absolute name stays as it is
    const bool inside = name.is_absolute() || stays_inside(name);
    if (!inside && !looks_like_text) {
      core::fail(ErrorKind::kInvalidArgument,
                 "the chat template file {} lies outside of the model directory {}; give an absolute path",
                 core::quoted(text_or_file), model_dir.string());
    }
    if (inside && is_there(file))
      return {{"default", parse(core::read_file(file, kMaxTemplateFile), file.string())}};
  }
  if (!looks_like_text) {
    core::fail(ErrorKind::kNotFound, "the chat template {} is neither a file in {} nor a template",
               core::quoted(text_or_file), model_dir.string());
  }
  return {{"default", parse(text_or_file, "the configured chat template")}};
}

}  // namespace

ModelTemplate::ModelTemplate(Templates templates, json::object variables)
    : templates_(std::move(templates)),
      variables_(std::make_shared<const json::object>(std::move(variables))) {
  if (templates_.empty()) core::fail(ErrorKind::kInvalidArgument, "a model's chat templates: there is none");
}

bool ModelTemplate::has_tool_template() const { return templates_.contains("tool_use"); }

const ChatTemplate& ModelTemplate::pick(bool tools) const {
  auto at = tools ? templates_.find("tool_use") : templates_.end();
  if (at == templates_.end()) at = templates_.find("default");
  if (at != templates_.end()) return *at->second;
  std::string names;
  for (const auto& [name, parsed] : templates_) names += (names.empty() ? "" : ", ") + name;
  core::fail(ErrorKind::kInvalidArgument, "the model has no chat template named 'default', only {}", names);
}

std::string ModelTemplate::render(const json::object& request, std::int64_t now) const {
  json::object variables = variables_of(*variables_, request);
  const json::value* messages = variables.if_contains("messages");
  if (messages == nullptr) core::fail(ErrorKind::kInvalidArgument, "'messages' is missing");
  if (!messages->is_array()) core::JsonView(*messages, "messages").fail_expected("an array");
  const bool open_end = flag(request, "continue_final_message").value_or(false);
  const auto prompted = flag(variables, "add_generation_prompt");
  if (open_end && prompted.value_or(false)) {
    core::fail(
        ErrorKind::kInvalidArgument,
        "continue_final_message and add_generation_prompt are both true: the prompt can end in only one way");
  }
  variables["add_generation_prompt"] = prompted.value_or(!open_end);
  // Always there, as transformers has it: a template that asks whether they are defined hears yes.
  for (const char* name : {"tools", "documents"}) {
    if (!variables.contains(name)) variables[name] = nullptr;
  }
  const ChatTemplate& chat_template = pick(!variables["tools"].is_null());
  return open_end ? render_open_end(chat_template, std::move(variables), now)
                  : chat_template.render(variables, now);
}

std::optional<ModelTemplate> load_model_template(const fs::path& model_dir,
                                                 std::string_view override_text_or_file) {
  const fs::path config_path = model_dir / "tokenizer_config.json";
  const auto config = read_json(config_path);
  Templates templates;
  if (!override_text_or_file.empty()) {
    templates = templates_of_override(model_dir, override_text_or_file);
  } else {
    templates = templates_of_files(model_dir);
    if (templates.empty()) templates = templates_of_config(config, config_path);
  }
  if (templates.empty()) return std::nullopt;
  json::object variables;
  add_special_tokens(config, config_path, variables);
  const fs::path map_path = model_dir / "special_tokens_map.json";
  add_special_tokens(read_json(map_path), map_path, variables);
  return ModelTemplate(std::move(templates), std::move(variables));
}

}  // namespace peregrine::text
