// SPDX-License-Identifier: Apache-2.0
#include "cli/model_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <string_view>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/properties.h"
#include "core/suggest.h"
#include "model/load.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::uint64_t kLargestPropertiesFile = 1 << 20;

/// A key and value with where they were set, for messages.
struct Setting {
  std::string key;  ///< Without "option.".
  std::string value;
  std::string origin;

  [[noreturn]] void refuse(std::string_view allowed) const {
    fail(ErrorKind::kInvalidArgument, "option.{} ({}) must be {}, found {}", key, origin, allowed,
         core::quoted(value));
  }
};

std::int64_t parse_integer(const Setting& setting, std::int64_t low, std::int64_t high) {
  std::int64_t number = 0;
  const char* end = setting.value.data() + setting.value.size();
  const auto [stop, error] = std::from_chars(setting.value.data(), end, number);
  if (error != std::errc() || stop != end || number < low || number > high) {
    setting.refuse(fmt::format("an integer from {} to {}", low, high));
  }
  return number;
}

std::optional<core::DType> parse_dtype(const Setting& setting) {
  return model::parse_dtype_option(fmt::format("option.{} ({})", setting.key, setting.origin), setting.value);
}

struct KnownOption {
  std::string_view key;
  void (*apply)(const Setting& setting, ModelOptions& options);
};

/// The only value of an option that this version can do.
void require_value(const Setting& setting, std::initializer_list<std::string_view> values,
                   std::string_view reason) {
  if (std::find(values.begin(), values.end(), setting.value) != values.end()) return;
  fail(ErrorKind::kUnsupported, "option.{}={} ({}) is not supported: {}", setting.key,
       core::quoted(setting.value), setting.origin, reason);
}

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

constexpr std::array kKnownOptions = {
    KnownOption{"device", [](const Setting& s, ModelOptions& o) { o.device = s.value; }},
    KnownOption{"isa", [](const Setting& s, ModelOptions& o) { o.isa = s.value; }},
    KnownOption{"cpu_threads",
                [](const Setting& s, ModelOptions& o) {
                  o.cpu_threads = static_cast<int>(parse_integer(s, 0, 1024));
                }},
    KnownOption{"dtype", [](const Setting& s, ModelOptions& o) { o.dtype = parse_dtype(s); }},
    KnownOption{"compute_dtype", [](const Setting& s, ModelOptions& o) { o.compute_dtype = parse_dtype(s); }},
    KnownOption{"kv_cache_dtype",
                [](const Setting& s, ModelOptions& o) { o.kv_cache_dtype = parse_dtype(s); }},
    KnownOption{"max_rolling_batch_size",
                [](const Setting& s, ModelOptions& o) {
                  o.engine.max_rolling_batch_size = static_cast<std::int32_t>(parse_integer(s, 1, 4096));
                }},
    KnownOption{"max_rolling_batch_prefill_tokens",
                [](const Setting& s, ModelOptions& o) {
                  o.engine.max_rolling_batch_prefill_tokens =
                      static_cast<std::int32_t>(parse_integer(s, 1, 131072));
                }},
    KnownOption{"max_model_len",
                [](const Setting& s, ModelOptions& o) {
                  o.engine.max_model_length = parse_integer(s, 1, kMaxInt32);
                }},
    KnownOption{"kv_blocks",
                [](const Setting& s, ModelOptions& o) {
                  o.engine.kv_blocks = static_cast<std::int32_t>(parse_integer(s, 1, kMaxInt32));
                }},
    KnownOption{"tensor_parallel_degree",
                [](const Setting& s, ModelOptions&) { require_value(s, {"1"}, "only 1 so far"); }},
    KnownOption{"pipeline_parallel_degree",
                [](const Setting& s, ModelOptions&) { require_value(s, {"1"}, "only 1 so far"); }},
    KnownOption{"quantize",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"", "none"}, "no quantization yet");
                }},
    KnownOption{"load_in_8bit",
                [](const Setting& s, ModelOptions&) { require_value(s, {"false"}, "no quantization yet"); }},
    KnownOption{"load_in_4bit",
                [](const Setting& s, ModelOptions&) { require_value(s, {"false"}, "no quantization yet"); }},
    KnownOption{"enable_lora",
                [](const Setting& s, ModelOptions&) { require_value(s, {"false"}, "no adapters yet"); }},
    KnownOption{"task",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"auto", "text-generation"}, "only text-generation so far");
                }},
};

/// Keys of LMI's that change nothing about what a model answers here; each is answered with one warning.
constexpr std::array<std::string_view, 13> kHarmlessOptions = {"model_id",
                                                               "entryPoint",
                                                               "rolling_batch",
                                                               "trust_remote_code",
                                                               "low_cpu_mem_usage",
                                                               "device_map",
                                                               "device_id",
                                                               "enable_streaming",
                                                               "waiting_steps",
                                                               "output_formatter",
                                                               "gpu_memory_utilization",
                                                               "enforce_eager",
                                                               "max_tokens"};

void apply_setting(const Setting& setting, ModelOptions& options) {
  const auto known = std::find_if(kKnownOptions.begin(), kKnownOptions.end(),
                                  [&](const KnownOption& option) { return option.key == setting.key; });
  if (known != kKnownOptions.end()) {
    known->apply(setting, options);
    options.origins.push_back({setting.key, setting.value, setting.origin});
    return;
  }
  if (std::find(kHarmlessOptions.begin(), kHarmlessOptions.end(), setting.key) != kHarmlessOptions.end()) {
    spdlog::warn("option.{} ({}) has no effect here", setting.key, setting.origin);
    return;
  }
  std::vector<std::string_view> names(kHarmlessOptions.begin(), kHarmlessOptions.end());
  for (const KnownOption& option : kKnownOptions) names.push_back(option.key);
  const std::string_view near = core::nearest_name(setting.key, names);
  fail(ErrorKind::kInvalidArgument, "option.{} ({}) is not a known option{}", setting.key, setting.origin,
       near.empty() ? "" : fmt::format("; did you mean option.{}?", near));
}

std::string_view without_prefix(std::string_view key) {
  constexpr std::string_view kPrefix = "option.";
  return key.starts_with(kPrefix) ? key.substr(kPrefix.size()) : key;
}

}  // namespace

ModelOptions read_model_options(const std::filesystem::path& model_dir,
                                const std::vector<std::string>& overrides) {
  ModelOptions options;
  const auto file = model_dir / "serving.properties";
  if (!model_dir.empty() && std::filesystem::exists(file)) {
    for (const auto& [key, value] :
         core::parse_properties(core::read_file(file, kLargestPropertiesFile), file.string())) {
      // Other keys (engine, batch_size, ...) speak to the server, not to the loading of a model.
      if (key.starts_with("option."))
        apply_setting({std::string(without_prefix(key)), value, file.string()}, options);
    }
  }
  for (const std::string& text : overrides) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail(ErrorKind::kInvalidArgument, "--option must be key=value, found {}", core::quoted(text));
    }
    apply_setting({std::string(without_prefix(std::string_view(text).substr(0, equals))),
                   text.substr(equals + 1), "--option"},
                  options);
  }
  return options;
}

}  // namespace peregrine::cli
