// SPDX-License-Identifier: Apache-2.0
#include "configuration/secure_mode.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "configuration/model_options.h"
#include "core/ascii.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace peregrine::configuration {
namespace {

using core::ErrorKind;
using core::fail;

constexpr const char* kModeName = "SAGEMAKER_SECURE_MODE";
constexpr const char* kControlsName = "SAGEMAKER_SECURITY_CONTROLS";
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{64} << 20;

struct Control {
  std::string_view name;
  bool SecureMode::*flag;
};
constexpr std::array kControls = {
    Control{"DISALLOW_REQUIREMENTS_TXT", &SecureMode::no_requirements},
    Control{"DISALLOW_PICKLE_FILES", &SecureMode::no_pickles},
    Control{"DISALLOW_TRUST_REMOTE_CODE", &SecureMode::no_remote_code},
    Control{"DISALLOW_CUSTOM_INFERENCE_SCRIPTS", &SecureMode::no_scripts},
    Control{"DISALLOW_CHAT_TEMPLATE", &SecureMode::no_chat_templates},
};

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

void add_control(std::string_view name, SecureMode& mode) {
  std::string known;
  for (const Control& control : kControls) {
    if (control.name == name) {
      mode.*control.flag = true;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(control.name);
  }
  fail(ErrorKind::kInvalidArgument, "{}: {} is not known; there are {}", kControlsName, core::quoted(name),
       known);
}

[[noreturn]] void refuse_file(const std::filesystem::path& path, std::string_view what,
                              std::string_view control) {
  fail(ErrorKind::kInvalidArgument, "{} {}, which {} forbids ({}=true); take it away", path.string(), what,
       control, kModeName);
}

/// Chat templates are programs of a small language, which runs here in a sandbox; the mode forbids them all
/// the same.
void check_chat_templates(const std::filesystem::path& directory) {
  for (const char* name : {"chat_template.jinja", "chat_template.json"}) {
    if (std::filesystem::exists(directory / name))
      refuse_file(directory / name, "is a chat template", "DISALLOW_CHAT_TEMPLATE");
  }
  const auto path = directory / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return;
  const auto config = core::parse_json(core::read_file(path, kMaxConfigBytes), path.string());
  if (core::JsonView(config, path.string()).find("chat_template"))
    refuse_file(path, "has a chat_template", "DISALLOW_CHAT_TEMPLATE");
}

}  // namespace

SecureMode read_secure_mode() {
  SecureMode mode;
  const char* const value = std::getenv(kModeName);
  const std::string on = value != nullptr ? core::lower_ascii(value) : "";
  if (on.empty() || on == "false") return mode;
  if (on != "true") {
    fail(ErrorKind::kInvalidArgument, "{} must be true or false, found {}", kModeName, core::quoted(value));
  }
  const char* const controls = std::getenv(kControlsName);
  if (controls == nullptr) {
    fail(ErrorKind::kInvalidArgument, "{}=true needs {}, a list of what is forbidden, which is not set",
         kModeName, kControlsName);
  }
  for (std::string_view rest = controls; !rest.empty();) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    if (const auto name = trimmed(rest.substr(0, comma)); !name.empty()) add_control(name, mode);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return mode;
}

void check_setting(const SecureMode& mode, const Setting& setting) {
  const auto refuse = [&](std::string_view control) {
    fail(ErrorKind::kInvalidArgument, "{}={} ({}) is forbidden by {} ({}=true)", setting.key,
         core::quoted(setting.value, 100), setting.origin, control, kModeName);
  };
  const bool is_true = core::lower_ascii(setting.value) == "true";
  if (mode.no_pickles && setting.key == "option.allow_pickle" && is_true) refuse("DISALLOW_PICKLE_FILES");
  if (mode.no_remote_code && setting.key == "option.trust_remote_code" && is_true)
    refuse("DISALLOW_TRUST_REMOTE_CODE");
  if (mode.no_scripts && setting.key == "option.entryPoint" && !setting.value.starts_with("djl_python."))
    refuse("DISALLOW_CUSTOM_INFERENCE_SCRIPTS");
  if (mode.no_chat_templates && setting.key == "option.chat_template" && !setting.value.empty())
    refuse("DISALLOW_CHAT_TEMPLATE");
}

void check_files(const SecureMode& mode, const std::filesystem::path& directory) {
  if (mode.no_scripts && std::filesystem::exists(directory / "model.py"))
    refuse_file(directory / "model.py", "is a script", "DISALLOW_CUSTOM_INFERENCE_SCRIPTS");
  if (mode.no_requirements && std::filesystem::exists(directory / "requirements.txt"))
    refuse_file(directory / "requirements.txt", "asks for packages", "DISALLOW_REQUIREMENTS_TXT");
  if (mode.no_chat_templates) check_chat_templates(directory);
}

}  // namespace peregrine::configuration
