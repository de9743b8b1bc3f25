// SPDX-License-Identifier: Apache-2.0
#include "configuration/model_options.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "configuration/secure_mode.h"
#include "core/ascii.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/properties.h"
#include "core/suggest.h"

namespace peregrine::configuration {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::uint64_t kLargestPropertiesFile = 1 << 20;
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

[[noreturn]] void refuse(const Setting& setting, std::string_view allowed) {
  fail(ErrorKind::kInvalidArgument, "{} ({}) must be {}, found {}", setting.key, setting.origin, allowed,
       core::quoted(setting.value));
}

std::int64_t parse_integer(const Setting& setting, std::int64_t low, std::int64_t high) {
  std::int64_t number = 0;
  const char* end = setting.value.data() + setting.value.size();
  const auto [stop, error] = std::from_chars(setting.value.data(), end, number);
  if (error != std::errc() || stop != end || number < low || number > high) {
    refuse(setting, fmt::format("an integer from {} to {}", low, high));
  }
  return number;
}

std::int32_t parse_int32(const Setting& setting, std::int64_t low, std::int64_t high = kMaxInt32) {
  return static_cast<std::int32_t>(parse_integer(setting, low, high));
}

std::optional<core::DType> parse_dtype(const Setting& setting) {
  if (setting.value.empty() || setting.value == "auto") return std::nullopt;
  const auto dtype = core::parse_float_dtype(setting.value);
  if (setting.value == "int8" && setting.key == "option.dtype") {
    fail(ErrorKind::kUnsupported,
         "option.dtype=int8 ({}) is not supported; set option.quantize=int8, and option.dtype to the type "
         "that "
         "the arithmetic is to follow",
         setting.origin);
  }
  if (!dtype) refuse(setting, "auto, float32 (fp32), float16 (fp16) or bfloat16 (bf16)");
  return dtype;
}

/// float16 and the 8-bit floats of LMI's vLLM are known, but no cache here is made of them.
std::optional<core::DType> parse_cache_dtype(const Setting& setting) {
  constexpr std::string_view kAllowed = "auto, float32 (fp32), bfloat16 (bf16) or int8";
  if (setting.value == "int8") return core::DType::kI8;
  const auto dtype = core::parse_float_dtype(setting.value);
  if (dtype == core::DType::kF16 || setting.value.starts_with("fp8")) {
    fail(ErrorKind::kUnsupported, "{}={} ({}) is not supported; use {}", setting.key,
         core::quoted(setting.value), setting.origin, kAllowed);
  }
  if (setting.value.empty() || setting.value == "auto") return std::nullopt;
  if (!dtype) refuse(setting, kAllowed);
  return dtype;
}

OutputFormatter parse_formatter(const Setting& setting) {
  if (setting.value.empty()) return OutputFormatter::kAuto;
  if (setting.value == "json") return OutputFormatter::kJson;
  if (setting.value == "jsonlines") return OutputFormatter::kJsonLines;
  if (setting.value == "sse") return OutputFormatter::kSse;
  refuse(setting, "json, jsonlines or sse");
}

/// Names are those of LMI, DJL and transformers.
Task parse_task(const Setting& setting) {
  struct Name {
    std::string_view name;
    Task task;
  };
  static constexpr std::array kNames = {Name{"", Task::kAuto},
                                        Name{"auto", Task::kAuto},
                                        Name{"text-generation", Task::kGenerate},
                                        Name{"text2text-generation", Task::kGenerate},
                                        Name{"text-embedding", Task::kEmbed},
                                        Name{"text_embedding", Task::kEmbed},
                                        Name{"feature-extraction", Task::kEmbed},
                                        Name{"embed", Task::kEmbed},
                                        Name{"text-classification", Task::kClassify},
                                        Name{"classify", Task::kClassify},
                                        Name{"rerank", Task::kRerank},
                                        Name{"sentence-similarity", Task::kRerank},
                                        Name{"text-similarity", Task::kRerank},
                                        Name{"score", Task::kRerank}};
  const auto found = std::find_if(kNames.begin(), kNames.end(),
                                  [&](const Name& name) { return name.name == setting.value; });
  if (found != kNames.end()) return found->task;
  fail(ErrorKind::kUnsupported,
       "{}={} ({}) is not supported; there are auto, text-generation, text2text-generation, text-embedding, "
       "feature-extraction, text-classification, classify, rerank and sentence-similarity",
       setting.key, core::quoted(setting.value), setting.origin);
}

std::string parse_pooling(const Setting& setting) {
  if (setting.value.empty() || setting.value == "mean" || setting.value == "cls") return setting.value;
  if (setting.value == "lasttoken" || setting.value == "last") return "lasttoken";
  constexpr std::array<std::string_view, 4> kOthers = {"max", "mean_sqrt_len", "mean_sqrt_len_tokens",
                                                       "weightedmean"};
  if (std::find(kOthers.begin(), kOthers.end(), setting.value) == kOthers.end()) {
    refuse(setting, "mean, cls or lasttoken");
  }
  fail(ErrorKind::kUnsupported, "{}={} ({}) is not supported; there are mean, cls and lasttoken", setting.key,
       setting.value, setting.origin);
}

/// Booleans are LMI's: any case.
bool parse_boolean(const Setting& setting) {
  const std::string lower = core::lower_ascii(setting.value);
  if (lower == "true") return true;
  if (lower == "false") return false;
  refuse(setting, "true or false");
}

/// The only values of an option that this version can do. Booleans are LMI's: any case.
void require_value(const Setting& setting, std::initializer_list<std::string_view> values,
                   std::string_view reason) {
  std::string lower = setting.value;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (std::find(values.begin(), values.end(), lower) != values.end()) return;
  fail(ErrorKind::kUnsupported, "{}={} ({}) is not supported: {}", setting.key, core::quoted(setting.value),
       setting.origin, reason);
}

/// LMI's names are those of its engines' methods; the ones for int8 weights all mean the one there is here.
core::Quantization parse_quantization(const Setting& setting) {
  constexpr std::string_view kSupported =
      "int8 (also dynamic_int8, static_int8, bitsandbytes8), which quantizes the weights as they are loaded";
  constexpr std::array<std::string_view, 3> kInt8 = {"dynamic_int8", "static_int8", "bitsandbytes8"};
  constexpr std::array<std::string_view, 13> kOthers = {
      "awq",  "awq_marlin",  "bitsandbytes", "bitsandbytes4", "compressed-tensors", "fp8",       "gptq",
      "int4", "gptq_marlin", "marlin",       "mxfp4",         "smoothquant",        "squeezellm"};
  const auto is_one_of = [](const auto& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const std::string lower = core::lower_ascii(setting.value);
  if (lower.empty() || lower == "none") return core::Quantization::kNone;
  if (lower == "int8") return core::Quantization::kInt8;
  if (is_one_of(kInt8, lower)) {
    spdlog::info("{}={} ({}): served by Peregrine's own int8", setting.key, setting.value, setting.origin);
    return core::Quantization::kInt8;
  }
  if (is_one_of(kOthers, lower)) {
    fail(ErrorKind::kUnsupported, "{}={} ({}) is not supported; there are none and {}", setting.key,
         core::quoted(setting.value), setting.origin, kSupported);
  }
  refuse(setting, fmt::format("none or {}", kSupported));
}

/// LMI's names of engines for continuous batching all mean the one there is here.
void read_rolling_batch(const Setting& setting, ModelOptions&) {
  constexpr std::array<std::string_view, 8> kEngines = {"auto",   "vllm",      "lmi-dist", "scheduler",
                                                        "trtllm", "deepspeed", "tnx",      "neuron"};
  if (setting.value == "disable") {
    fail(ErrorKind::kUnsupported, "{}=disable ({}) is not supported yet: every model runs as a rolling batch",
         setting.key, setting.origin);
  }
  if (std::find(kEngines.begin(), kEngines.end(), setting.value) == kEngines.end()) {
    refuse(setting, "auto, vllm, lmi-dist, scheduler, trtllm or disable");
  }
  if (setting.value != "auto") {
    spdlog::info("{}={} ({}): served by Peregrine's own rolling batch", setting.key, setting.value,
                 setting.origin);
  }
}

/// Text-generation engines of LMI are all replaced by this one; those for other work are not.
void read_engine(const Setting& setting, ModelOptions&) {
  constexpr std::array<std::string_view, 4> kEngines = {"Python", "MPI", "DeepSpeed", "FasterTransformer"};
  if (std::find(kEngines.begin(), kEngines.end(), setting.value) == kEngines.end()) {
    refuse(setting, "Python, MPI, DeepSpeed or FasterTransformer, which all mean Peregrine's own");
  }
  spdlog::info("engine={} ({}): served by Peregrine's own engine", setting.value, setting.origin);
}

struct KnownOption {
  std::string_view key;  ///< As in serving.properties.
  void (*apply)(const Setting& setting, ModelOptions& options);
};

constexpr std::array kKnownOptions = {
    KnownOption{"option.device", [](const Setting& s, ModelOptions& o) { o.device = s.value; }},
    KnownOption{"option.isa", [](const Setting& s, ModelOptions& o) { o.isa = s.value; }},
    KnownOption{"option.cpu_threads",
                [](const Setting& s, ModelOptions& o) { o.cpu_threads = parse_int32(s, 0, 1024); }},
    KnownOption{"option.dtype", [](const Setting& s, ModelOptions& o) { o.dtype = parse_dtype(s); }},
    KnownOption{"option.compute_dtype",
                [](const Setting& s, ModelOptions& o) { o.compute_dtype = parse_dtype(s); }},
    KnownOption{"option.kv_cache_dtype",
                [](const Setting& s, ModelOptions& o) { o.kv_cache_dtype = parse_cache_dtype(s); }},
    KnownOption{"option.max_rolling_batch_size",
                [](const Setting& s, ModelOptions& o) { o.max_rolling_batch_size = parse_int32(s, 1, 4096); }},
    KnownOption{"option.max_rolling_batch_prefill_tokens",
                [](const Setting& s, ModelOptions& o) {
                  o.max_rolling_batch_prefill_tokens = parse_int32(s, 1, 131072);
                }},
    KnownOption{"option.max_model_len",
                [](const Setting& s, ModelOptions& o) { o.max_model_len = parse_integer(s, 1, kMaxInt32); }},
    KnownOption{"option.kv_blocks",
                [](const Setting& s, ModelOptions& o) { o.kv_blocks = parse_int32(s, 1); }},
    KnownOption{"option.allow_pickle",
                [](const Setting& s, ModelOptions& o) { o.allow_pickle = parse_boolean(s); }},
    KnownOption{"option.model_id", [](const Setting& s, ModelOptions& o) { o.model_id = s.value; }},
    KnownOption{"option.chat_template", [](const Setting& s, ModelOptions& o) { o.chat_template = s.value; }},
    KnownOption{"option.output_formatter",
                [](const Setting& s, ModelOptions& o) { o.output_formatter = parse_formatter(s); }},
    KnownOption{"option.model_loading_timeout",
                [](const Setting& s, ModelOptions& o) {
                  o.model_loading_timeout = std::chrono::seconds(parse_integer(s, 0, 1'000'000));
                }},
    KnownOption{"job_queue_size",
                [](const Setting& s, ModelOptions& o) { o.job_queue_size = parse_int32(s, 1, 1'000'000); }},
    KnownOption{"engine", read_engine},
    KnownOption{"option.rolling_batch", read_rolling_batch},
    KnownOption{"option.tensor_parallel_degree",
                [](const Setting& s, ModelOptions&) { require_value(s, {"1", "max"}, "only 1 so far"); }},
    KnownOption{"option.pipeline_parallel_degree",
                [](const Setting& s, ModelOptions&) { require_value(s, {"1"}, "only 1 so far"); }},
    KnownOption{"option.quantize",
                [](const Setting& s, ModelOptions& o) { o.quantize = parse_quantization(s); }},
    KnownOption{"option.load_in_8bit",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"false"}, "option.quantize=int8 is what serves with int8 weights");
                }},
    KnownOption{"option.load_in_4bit",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"false"}, "there are weights of 8 bits with option.quantize=int8, not of 4");
                }},
    KnownOption{"option.enable_lora",
                [](const Setting& s, ModelOptions&) { require_value(s, {"false"}, "no adapters yet"); }},
    KnownOption{"option.task", [](const Setting& s, ModelOptions& o) { o.task = parse_task(s); }},
    KnownOption{"option.pooling", [](const Setting& s, ModelOptions& o) { o.pooling = parse_pooling(s); }},
    KnownOption{"option.normalize",
                [](const Setting& s, ModelOptions& o) { o.normalize = parse_boolean(s); }},
    KnownOption{"option.tgi_compat",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"false"}, "the shape of TGI's answers is not there yet");
                }},
    KnownOption{"option.bedrock_compat",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"false"}, "the shape of Bedrock's answers is not there yet");
                }},
    KnownOption{"option.enable_streaming",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"false"}, "a request asks for streaming with \"stream\": true");
                }},
    KnownOption{"option.speculative_draft_model",
                [](const Setting& s, ModelOptions&) { require_value(s, {""}, "no speculative decoding yet"); }},
    KnownOption{"option.revision",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"", "main"}, "models are local directories so far");
                }},
    KnownOption{"option.s3url",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {""}, "models are local directories so far; use option.model_id");
                }},
    KnownOption{"batch_size",
                [](const Setting& s, ModelOptions&) {
                  require_value(s, {"1"}, "dynamic batching is not there yet; the rolling batch needs none");
                }},
    KnownOption{"option.entryPoint",
                [](const Setting& s, ModelOptions&) {
                  if (s.value.ends_with(".py")) require_value(s, {}, "handler scripts are not there yet");
                  spdlog::info("{}={} ({}): served by Peregrine's own engine", s.key, s.value, s.origin);
                }},
};

/// Keys of LMI's that change nothing about what a model answers here; each is answered with one warning.
constexpr std::array<std::string_view, 25> kHarmlessOptions = {"option.trust_remote_code",
                                                               "option.low_cpu_mem_usage",
                                                               "option.device_map",
                                                               "option.device_id",
                                                               "option.waiting_steps",
                                                               "option.gpu_memory_utilization",
                                                               "option.enforce_eager",
                                                               "option.max_tokens",
                                                               "option.async_mode",
                                                               "option.mpi_mode",
                                                               "option.predict_timeout",
                                                               "option.parallel_loading",
                                                               "option.enable_chunked_prefill",
                                                               "option.enable_prefix_caching",
                                                               "option.load_format",
                                                               "max_batch_delay",
                                                               "max_idle_time",
                                                               "minWorkers",
                                                               "maxWorkers",
                                                               "load_on_devices",
                                                               "required_memory_mb",
                                                               "reserved_memory_mb",
                                                               "retry_threshold",
                                                               "log_request_metric",
                                                               "metrics_aggregation"};

/// "; did you mean NAME?" where a known name is near, with or without "option.".
std::string suggestion(std::string_view key) {
  constexpr std::string_view kPrefix = "option.";
  std::vector<std::string_view> names(kHarmlessOptions.begin(), kHarmlessOptions.end());
  for (const KnownOption& option : kKnownOptions) names.push_back(option.key);
  const std::string prefixed = std::string(kPrefix) + std::string(key);
  std::string_view near = core::nearest_name(key, names);
  if (near.empty()) near = core::nearest_name(prefixed, names);
  if (near.empty() && key.starts_with(kPrefix)) near = core::nearest_name(key.substr(kPrefix.size()), names);
  return near.empty() ? "" : fmt::format("; did you mean {}?", near);
}

const KnownOption* find_known(std::string_view key) {
  const auto found = std::find_if(kKnownOptions.begin(), kKnownOptions.end(),
                                  [&](const KnownOption& option) { return option.key == key; });
  return found == kKnownOptions.end() ? nullptr : &*found;
}

bool is_harmless(std::string_view key) {
  return std::find(kHarmlessOptions.begin(), kHarmlessOptions.end(), key) != kHarmlessOptions.end();
}

void apply_setting(const Setting& setting, ModelOptions& options) {
  if (const KnownOption* known = find_known(setting.key)) {
    known->apply(setting, options);
    options.settings.push_back(setting);
  } else if (is_harmless(setting.key)) {
    spdlog::warn("{} ({}) has no effect here", setting.key, setting.origin);
  } else {
    fail(ErrorKind::kInvalidArgument, "{} ({}) is not a known option{}", setting.key, setting.origin,
         suggestion(setting.key));
  }
}

/// The key as serving.properties has it: --option may leave "option." out.
std::string full_key(std::string_view key) {
  const bool as_it_is = key.starts_with("option.") || find_known(key) != nullptr || is_harmless(key);
  return as_it_is ? std::string(key) : "option." + std::string(key);
}

}  // namespace

ModelOptions read_model_options(const std::filesystem::path& model_dir,
                                const std::vector<std::string>& overrides) {
  ModelOptions options;
  const SecureMode secure = read_secure_mode();
  const auto apply = [&](const Setting& setting) {
    check_setting(secure, setting);
    apply_setting(setting, options);
  };
  const auto file = model_dir / "serving.properties";
  if (!model_dir.empty() && std::filesystem::exists(file)) {
    for (const auto& [key, value] :
         core::parse_properties(core::read_file(file, kLargestPropertiesFile), file.string())) {
      apply({key, value, file.string()});
    }
  }
  for (const std::string& text : overrides) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail(ErrorKind::kInvalidArgument, "--option must be key=value, found {}", core::quoted(text));
    }
    apply({full_key(std::string_view(text).substr(0, equals)), text.substr(equals + 1), "--option"});
  }
  if (secure.no_pickles) apply({"option.allow_pickle", "false", "SAGEMAKER_SECURITY_CONTROLS"});
  if (!model_dir.empty()) check_files(secure, model_dir);
  if (!options.model_id.empty()) check_files(secure, options.model_id);
  return options;
}

std::filesystem::path model_files(const std::filesystem::path& model_dir, const ModelOptions& options) {
  if (options.model_id.empty()) return std::filesystem::absolute(model_dir);
  if (!std::filesystem::is_directory(options.model_id)) {
    fail(
        ErrorKind::kNotFound,
        "option.model_id={} is not a directory here; models of the Hugging Face hub or S3 must be downloaded "
        "first, so far",
        core::quoted(options.model_id, 200));
  }
  return std::filesystem::absolute(options.model_id);
}

ModelOptions apply_settings(std::span<const Setting> settings) {
  ModelOptions options;
  for (const Setting& setting : settings) {
    if (const KnownOption* known = find_known(setting.key)) known->apply(setting, options);
  }
  options.settings.assign(settings.begin(), settings.end());
  return options;
}

}  // namespace peregrine::configuration
