// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_files.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <optional>
#include <vector>

#include "cli/json_output.h"
#include "core/error.h"
#include "model/encoder_family.h"
#include "model/family.h"
#include "model/random_models.h"
#include "model_info/model_info.h"
#include "weights/random_source.h"
#include "weights/safetensors_writer.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;
using core::fail;

/// Names and shapes of a model's tensors.
using TensorList = std::map<std::string, std::vector<std::int64_t>>;

void add(const std::vector<model::SlotSource>& slots, TensorList& out) {
  for (const auto& slot : slots)
    for (const auto& part : slot.parts) out.emplace(part.tensor, part.tensor_shape);
}

TensorList tensors_of(const model_info::ModelDirectory& directory) {
  const auto& info = directory.info();
  if (model::find_encoder_family(info.architecture, info.model_type) != nullptr)
    fail(ErrorKind::kUnsupported, "--write is for models that generate; {} is an encoder", info.architecture);
  const model::Family& family = model::find_family(info.architecture, info.model_type);
  const model::DecoderConfig config = family.read_config(directory.config());
  TensorList out;
  add(family.model_slots(config), out);
  for (std::int32_t layer = 0; layer < config.layers; ++layer) add(family.layer_slots(config, layer), out);
  if (family.encoder == nullptr) return out;
  const model::EncoderConfig encoder = family.encoder->read_config(directory.config(), info.architecture);
  add(family.encoder->model_slots(encoder), out);
  for (std::int32_t layer = 0; layer < encoder.layers; ++layer)
    add(family.encoder->layer_slots(encoder, layer), out);
  return out;
}

/// The character that a byte-level vocabulary has for a byte: itself where it prints, otherwise the next of
/// those from U+0100 on (GPT-2's table).
std::string byte_character(int byte) {
  const auto prints = [](int b) { return (b > 32 && b < 127) || (b > 160 && b != 173); };
  int code = byte;
  if (!prints(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += prints(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

std::string tokenizer_json(std::int64_t vocab_size) {
  constexpr int kBytes = 256;
  std::string vocabulary;
  for (std::int64_t id = 0; id < vocab_size; ++id) {
    const std::string token = id < kBytes ? byte_character(static_cast<int>(id))
                                          : fmt::format("{}w{:06}", byte_character(' '), id - kBytes);
    vocabulary += fmt::format("{}{}:{}", id == 0 ? "" : ",", json_string(token), id);
  }
  const std::string byte_level =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,)"
      R"("pre_tokenizer":{0},"post_processor":null,"decoder":{0},"model":{{"type":"BPE","dropout":null,)"
      R"("unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,)"
      R"("byte_fallback":false,"vocab":{{{1}}},"merges":[]}}}})",
      byte_level, vocabulary);
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text << '\n';
  file.close();
  if (!file) fail(ErrorKind::kInternal, "cannot write {}", path.string());
}

}  // namespace

void write_random_model(const std::string& shape, std::uint64_t seed,
                        const std::filesystem::path& directory) {
  const std::string config = model::random_model_config(shape);
  const auto description = model_info::ModelDirectory::parse(shape, config, std::nullopt);
  const TensorList wanted = tensors_of(description);
  weights::RandomSource source(seed, description.info().torch_dtype.value_or(core::DType::kF32));
  std::vector<weights::TensorToWrite> tensors;
  for (const auto& [name, dimensions] : wanted) {
    const weights::StoredTensor& made = source.require(name, dimensions);
    tensors.push_back({name, made.dtype, dimensions, made.data});
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error)
    fail(ErrorKind::kInternal, "cannot make the directory {}: {}", directory.string(), error.message());
  write_text(directory / "config.json", config);
  write_text(directory / "tokenizer.json",
             tokenizer_json(description.config().at("vocab_size").as_int(1, std::int64_t{1} << 31)));
  weights::write_safetensors(directory / "model.safetensors", tensors);
}

}  // namespace peregrine::cli
