// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "model/decoder.h"
#include "model/family.h"
#include "model/load.h"
#include "ops/device.h"
#include "support/devices.h"

namespace peregrine::model {

/// What an action threw: kind and message. A test that asks for an error and gets none sees "no error".
struct Caught {
  std::optional<core::ErrorKind> kind;
  std::string message = "no error";
};

template <typename Function>
Caught caught(Function&& function) {
  try {
    function();
  } catch (const core::Error& error) {
    return {error.kind(), error.what()};
  }
  return {};
}

/// config.json text through the family it names.
DecoderConfig read_config(std::string_view text);

/// A loaded decoder with a KV cache and buffers, for running steps by hand. Blocks are given out in an order
/// that is neither ascending nor contiguous.
class Bench {
 public:
  static constexpr std::int32_t kBlocks = 256;
  static constexpr StepLimits kLimits = {
      .rows = 256, .sequences = 8, .logit_rows = 128, .blocks_per_sequence = 32, .slots = 4, .encoder = {}};

  Bench(std::unique_ptr<ops::Device> device, const std::function<LoadedModel(ops::Device&)>& load);

  const Decoder& decoder() const { return *model_.decoder; }
  ops::Stream& stream() { return *stream_; }
  StepBuffers& buffers() { return *buffers_; }
  ops::KvCache& cache() { return *cache_; }

  /// Blocks for `tokens` positions that no other call has been given.
  std::vector<std::int32_t> take_blocks(std::size_t tokens);

  /// Runs one step, and waits. Logits, one row after the other.
  std::vector<float> run(std::span<const StepSequence> sequences);

  /// A prompt alone from a fresh sequence, `chunk` tokens in a step (0 = all); logits of its last
  /// `logit_rows` positions.
  std::vector<float> run_prompt(std::span<const std::int32_t> prompt, std::int32_t logit_rows,
                                std::size_t chunk = 0);

 private:
  std::unique_ptr<ops::Device> device_;
  LoadedModel model_;
  std::unique_ptr<ops::Stream> stream_;
  std::unique_ptr<ops::KvCache> cache_;
  std::unique_ptr<StepBuffers> buffers_;
  std::int32_t next_block_ = 0;
};

/// A golden fixture with arithmetic and cache in float32.
Bench golden_bench(const testing::DeviceCase& device, const std::string& fixture);

/// A model directory being made: config.json and tensors of float32 ascending numbers, which a test changes
/// before it is written.
struct DirectoryMaker {
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    core::DType dtype = core::DType::kF32;
  };

  std::string config;
  std::vector<Tensor> tensors;

  /// All tensors that the family of `config` wants, each once.
  explicit DirectoryMaker(std::string config_text);
  Tensor& at(std::string_view name);
  void erase(std::string_view name);
  void write(const std::filesystem::path& directory) const;
};

}  // namespace peregrine::model
