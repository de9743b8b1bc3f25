// SPDX-License-Identifier: Apache-2.0
#include "model_info/model_info.h"

#include <limits>
#include <system_error>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"

namespace peregrine::model_info {
namespace {

namespace fs = std::filesystem;
using core::DType;
using core::ErrorKind;
using core::fail;
using core::JsonView;

constexpr const char* kConfigName = "config.json";
constexpr const char* kGenerationName = "generation_config.json";
constexpr std::uint64_t kMaxFile = std::uint64_t{16} << 20;
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

std::string text_or_empty(const JsonView& config, std::string_view key) {
  const auto value = config.find(key);
  return value ? std::string(value->as_string()) : std::string();
}

std::string architecture_of(const JsonView& config, const std::string& model_type) {
  if (const auto list = config.find("architectures")) {
    if (!list->is_array()) list->fail_expected("a list of names");
    const auto& names = list->value().get_array();
    if (!names.empty()) {
      const JsonView first(names[0], list->where() + "[0]");
      if (first.as_string().empty()) first.fail_expected("the name of an architecture");
      return std::string(first.as_string());
    }
  }
  if (model_type.empty()) {
    fail(ErrorKind::kInvalidArgument, "{}: neither 'architectures' nor 'model_type' says what the model is",
         config.where());
  }
  return model_type;
}

std::optional<DType> torch_dtype_of(const JsonView& config) {
  auto value = config.find("torch_dtype");
  if (!value) value = config.find("dtype");
  if (!value) return std::nullopt;
  std::string_view name = value->as_string();
  if (name == "auto") return std::nullopt;
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (const auto dtype = core::parse_float_dtype(name)) return dtype;
  if (name == "float64" || name == "double") return DType::kF64;
  value->fail_expected("float32, float16, bfloat16 or float64");
}

/// A token id, or nothing for -1: older files (LLaMA's first config.json) write "none" so.
std::optional<std::int32_t> optional_id(const JsonView& value) {
  if (value.value().is_int64() && value.value().get_int64() == -1) return std::nullopt;
  return token_id(value);
}

/// The value of `key` in the first file that has it, read by `read`. The others are read as well: what is
/// wrong in a file is wrong even where another file's word counts.
template <typename Read>
auto first_of(const std::vector<JsonView>& files, std::string_view key, Read read) {
  std::optional<decltype(read(files.front()))> first;
  for (const auto& file : files) {
    const auto value = file.find(key);
    if (!value) continue;
    auto found = read(*value);
    if (!first) first = std::move(found);
  }
  return first;
}

std::optional<std::int32_t> id_of(const std::vector<JsonView>& files, std::string_view key) {
  return first_of(files, key, optional_id).value_or(std::nullopt);
}

/// One id or a list of them, each once.
std::vector<std::int32_t> read_ids(const JsonView& value) {
  if (value.is_array()) {
    std::vector<std::int32_t> out;
    std::unordered_set<std::int32_t> seen;
    for (const std::int32_t id : token_ids(value)) {
      if (seen.insert(id).second) out.push_back(id);
    }
    return out;
  }
  if (!value.is_integer()) value.fail_expected("a token id or a list of token ids");
  const auto id = optional_id(value);
  return id ? std::vector{*id} : std::vector<std::int32_t>();
}

std::vector<std::int32_t> ids_of(const std::vector<JsonView>& files, std::string_view key) {
  return first_of(files, key, read_ids).value_or(std::vector<std::int32_t>());
}

}  // namespace

std::int32_t ModelInfo::decoder_start() const {
  const auto start = decoder_start_token_id ? decoder_start_token_id : bos_token_id;
  if (start) return *start;
  core::fail(core::ErrorKind::kUnsupported,
             "config.json has neither decoder_start_token_id nor bos_token_id: it is not known what answers "
             "begin with");
}

ModelDirectory ModelDirectory::open(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    fail(ErrorKind::kNotFound, "model directory {} does not exist or is not a directory", directory.string());
  }
  const std::string config = core::read_file(directory / kConfigName, kMaxFile);
  std::optional<std::string> generation;
  // A link that leads nowhere is there: opening it must fail, not count as absent.
  if (fs::exists(fs::symlink_status(directory / kGenerationName, error))) {
    generation = core::read_file(directory / kGenerationName, kMaxFile);
  }
  return parse(directory, config, generation);
}

ModelDirectory ModelDirectory::parse(const fs::path& path, std::string_view config_text,
                                     std::optional<std::string_view> generation_text) {
  ModelDirectory out;
  out.path_ = path;
  out.where_ = (path / kConfigName).string();
  out.config_ = std::make_shared<const boost::json::value>(core::parse_json(config_text, out.where_));
  const JsonView config = out.config();
  if (!config.is_object()) config.fail_expected("an object");

  std::vector<JsonView> files;  // in the order in which they are asked
  boost::json::value generation_value;
  if (generation_text) {
    const std::string where = (path / kGenerationName).string();
    generation_value = core::parse_json(*generation_text, where);
    files.emplace_back(generation_value, where);
    if (!files[0].is_object()) files[0].fail_expected("an object");
    out.info_.generation = parse_generation_defaults(files[0]);
  }
  files.push_back(config);

  ModelInfo& info = out.info_;
  info.model_type = text_or_empty(config, "model_type");
  info.architecture = architecture_of(config, info.model_type);
  info.torch_dtype = torch_dtype_of(config);
  if (const auto size = config.find("vocab_size")) info.vocab_size = size->as_int(1, kMaxInt32);
  info.bos_token_id = id_of(files, "bos_token_id");
  info.pad_token_id = id_of(files, "pad_token_id");
  info.decoder_start_token_id = id_of(files, "decoder_start_token_id");
  info.eos_token_ids = ids_of(files, "eos_token_id");
  if (const auto tie = config.find("tie_word_embeddings")) info.tie_word_embeddings = tie->as_bool();
  return out;
}

}  // namespace peregrine::model_info
