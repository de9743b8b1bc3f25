// SPDX-License-Identifier: Apache-2.0
#include "model/support.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "core/json.h"
#include "model_info/model_info.h"
#include "support/test_data.h"
#include "weights/safetensors_writer.h"
#include "weights/tensor.h"

namespace peregrine::model {

DecoderConfig read_config(std::string_view text) {
  const auto directory = model_info::ModelDirectory::parse("model", text, std::nullopt);
  const auto& info = directory.info();
  return find_family(info.architecture, info.model_type).read_config(directory.config());
}

Bench::Bench(std::unique_ptr<ops::Device> device, const std::function<LoadedModel(ops::Device&)>& load)
    : device_(std::move(device)), model_(load(*device_)), stream_(device_->create_stream()) {
  auto spec = decoder().kv_cache_spec();
  spec.blocks = kBlocks;
  cache_ = device_->create_kv_cache(spec);
  buffers_ = decoder().create_buffers(kLimits, 2);
}

std::vector<std::int32_t> Bench::take_blocks(std::size_t tokens) {
  std::vector<std::int32_t> out;
  for (std::size_t covered = 0; covered < tokens; covered += static_cast<std::size_t>(ops::kBlockTokens)) {
    out.push_back(next_block_ * 37 % kBlocks);  // 37 and 256 have no common factor
    ++next_block_;
  }
  if (next_block_ > kBlocks) throw std::runtime_error("the test takes more blocks than there are");
  return out;
}

std::vector<float> Bench::run(std::span<const StepSequence> sequences) {
  const ops::Matrix logits = decoder().forward(*stream_, *buffers_, *cache_, sequences);
  std::vector<float> out(static_cast<std::size_t>(logits.rows * logits.cols));
  if (!out.empty()) stream_->download(out.data(), logits.data, out.size() * sizeof(float));
  stream_->wait(stream_->record());
  return out;
}

std::vector<float> Bench::run_prompt(std::span<const std::int32_t> prompt, std::int32_t logit_rows,
                                     std::size_t chunk) {
  const auto blocks = take_blocks(prompt.size());
  const auto frequencies = decoder().rotary_frequencies(static_cast<std::int64_t>(prompt.size()));
  if (chunk == 0) chunk = prompt.size();
  std::vector<float> out;
  const std::size_t first_wanted = prompt.size() - static_cast<std::size_t>(logit_rows);
  for (std::size_t start = 0; start < prompt.size(); start += chunk) {
    const std::size_t count = std::min(chunk, prompt.size() - start);
    StepSequence sequence;
    sequence.tokens = prompt.subspan(start, count);
    sequence.start = static_cast<std::int32_t>(start);
    sequence.blocks = blocks;
    sequence.rotary_frequencies = frequencies;
    sequence.logit_rows =
        static_cast<std::int32_t>(start + count - std::clamp(first_wanted, start, start + count));
    const auto logits = run({&sequence, 1});
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

Bench golden_bench(const testing::DeviceCase& device, const std::string& fixture) {
  return Bench(device.create(), [&](ops::Device& target) {
    LoadOptions options;
    options.compute = core::DType::kF32;
    options.cache = core::DType::kF32;
    return load_model(testing::test_data() / "golden" / fixture, target, options);
  });
}

DirectoryMaker::DirectoryMaker(std::string config_text) : config(std::move(config_text)) {
  const auto directory = model_info::ModelDirectory::parse("model", config, std::nullopt);
  const Family& family = find_family(directory.info().architecture, directory.info().model_type);
  const DecoderConfig decoder = family.read_config(directory.config());
  std::set<std::string> names;
  const auto add = [&](const std::vector<SlotSource>& slots) {
    for (const auto& slot : slots) {
      for (const auto& part : slot.parts) {
        if (names.insert(part.tensor).second) tensors.push_back({part.tensor, part.tensor_shape});
      }
    }
  };
  add(family.model_slots(decoder));
  for (std::int32_t layer = 0; layer < decoder.layers; ++layer) add(family.layer_slots(decoder, layer));
}

DirectoryMaker::Tensor& DirectoryMaker::at(std::string_view name) {
  for (auto& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("the test names no tensor of the model: " + std::string(name));
}

void DirectoryMaker::erase(std::string_view name) {
  at(name);
  std::erase_if(tensors, [name](const Tensor& tensor) { return tensor.name == name; });
}

void DirectoryMaker::write(const std::filesystem::path& directory) const {
  std::vector<std::vector<std::byte>> memory;
  std::vector<weights::TensorToWrite> files;
  for (const auto& tensor : tensors) {
    auto& data = memory.emplace_back(weights::byte_size(tensor.shape, tensor.dtype).value());
    if (tensor.dtype == core::DType::kF32) {
      for (std::size_t i = 0; i + 4 <= data.size(); i += 4) {
        const auto value = static_cast<float>(i / 4 % 251) * 1e-3f;
        std::memcpy(data.data() + i, &value, 4);
      }
    }
    files.push_back({tensor.name, tensor.dtype, tensor.shape, data});
  }
  weights::write_safetensors(directory / "model.safetensors", files);
  std::ofstream(directory / "config.json") << config;
}

}  // namespace peregrine::model
