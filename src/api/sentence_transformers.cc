// SPDX-License-Identifier: Apache-2.0
#include "api/sentence_transformers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <functional>
#include <limits>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace peregrine::api {
namespace {

using core::ErrorKind;
using core::fail;
using core::JsonView;
using generation::Pooling;
namespace fs = std::filesystem;

constexpr std::uint64_t kLargestFile = 1 << 20;
constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();

/// Calls `read` with the document in a file, where that is there.
void with_file(const fs::path& file, const std::function<void(const JsonView&)>& read) {
  if (!fs::exists(file)) return;
  const auto document = core::parse_json(core::read_file(file, kLargestFile), file.string());
  const JsonView view(document, file.string());
  if (!view.is_object() && !view.is_array()) view.fail_expected("an object");
  read(view);
}

bool flag(const JsonView& object, std::string_view key, bool otherwise) {
  const auto found = object.find(key);
  return found ? found->as_bool() : otherwise;
}

/// The path that a module has below the model; it must stay there.
fs::path module_path(const JsonView& module) {
  const auto found = module.find("path");
  const fs::path path(found ? std::string(found->as_string()) : std::string());
  for (const fs::path& part : path) {
    if (part == ".." || path.is_absolute()) found->fail_expected("a path inside the model directory");
  }
  return path;
}

void read_pooling(const JsonView& config, SentenceTransformers& out) {
  constexpr std::string_view kPrefix = "pooling_mode_";
  std::vector<std::string> chosen;
  for (const auto& [key, value] : config.members()) {
    if (key.starts_with(kPrefix) && value.is_bool() && value.as_bool()) {
      chosen.emplace_back(key.substr(kPrefix.size()));
    }
  }
  // Newer files have one word instead.
  if (const auto mode = config.find("pooling_mode"); mode && mode->is_string()) {
    chosen.emplace_back(mode->as_string());
  }
  if (chosen.size() != 1) {
    fail(ErrorKind::kUnsupported,
         "{} chooses {} ways of pooling ({}), which would be joined; one is supported: cls_token, "
         "mean_tokens or lasttoken",
         config.where(), chosen.size(), fmt::join(chosen, ", "));
  }
  const std::string& mode = chosen.front();
  if (mode == "cls_token" || mode == "cls") {
    out.pooling = Pooling::kCls;
  } else if (mode == "mean_tokens" || mode == "mean") {
    out.pooling = Pooling::kMean;
  } else if (mode == "lasttoken") {
    out.pooling = Pooling::kLast;
  } else {
    fail(ErrorKind::kUnsupported,
         "{}: pooling {} is not supported; there are cls_token, mean_tokens and "
         "lasttoken",
         config.where(), core::quoted(mode));
  }
  out.pools_prompt = flag(config, "include_prompt", true);
}

/// Each module is a Python class; only the last part of its name tells what it does.
void read_modules(const fs::path& directory, const JsonView& modules, SentenceTransformers& out) {
  for (const JsonView& module : modules.items()) {
    const std::string_view type = module.at("type").as_string();
    const std::string_view name = type.substr(type.rfind('.') + 1);
    if (name == "Transformer") {
      if (!module_path(module).empty()) {
        fail(ErrorKind::kUnsupported,
             "{}: the transformer lies in the folder {}; move its files into the model directory itself",
             modules.where(), core::quoted(module_path(module).string()));
      }
    } else if (name == "Pooling") {
      const fs::path file = directory / module_path(module) / "config.json";
      if (!fs::exists(file)) {
        fail(ErrorKind::kNotFound, "{} is missing, which {} names", file.string(), modules.where());
      }
      with_file(file, [&](const JsonView& config) { read_pooling(config, out); });
    } else if (name == "Normalize") {
      out.normalize = true;
    } else {
      fail(ErrorKind::kUnsupported,
           "{}: module {} is not supported; there are Transformer, Pooling and Normalize", modules.where(),
           core::quoted(type));
    }
  }
}

void read_bert_config(const fs::path& directory, SentenceTransformers& out) {
  // Of the many names that this file has had, the later ones are of models that are no encoders here.
  constexpr std::array kNames = {"sentence_bert_config.json", "sentence_roberta_config.json",
                                 "sentence_distilbert_config.json", "sentence_electra_config.json",
                                 "sentence_xlm-roberta_config.json"};
  for (const char* name : kNames) {
    if (!fs::exists(directory / name)) continue;
    with_file(directory / name, [&](const JsonView& config) {
      if (const auto length = config.find("max_seq_length")) out.max_tokens = length->as_int(1, kMaxInt);
      out.lower_case = flag(config, "do_lower_case", false);
    });
    return;
  }
}

void read_prompts(const JsonView& config, SentenceTransformers& out) {
  if (const auto prompts = config.find("prompts")) {
    for (const auto& [name, text] : prompts->members()) out.prompts.emplace(name, text.as_string());
  }
  const auto chosen = config.find("default_prompt_name");
  if (!chosen) return;
  const auto found = out.prompts.find(chosen->as_string());
  if (found == out.prompts.end()) chosen->fail_expected("the name of one of the prompts");
  out.default_prompt = found->second;
}

}  // namespace

std::optional<SentenceTransformers> read_sentence_transformers(const fs::path& directory) {
  if (!fs::exists(directory / "modules.json")) return std::nullopt;
  SentenceTransformers out;
  with_file(directory / "modules.json",
            [&](const JsonView& modules) { read_modules(directory, modules, out); });
  read_bert_config(directory, out);
  with_file(directory / "config_sentence_transformers.json",
            [&](const JsonView& config) { read_prompts(config, out); });
  if (!out.pools_prompt && !out.default_prompt.empty()) {
    fail(ErrorKind::kUnsupported,
         "{}: include_prompt is false, and there is a default prompt; prompts that do not count in the "
         "pooling are not supported",
         (directory / "modules.json").string());
  }
  return out;
}

}  // namespace peregrine::api
