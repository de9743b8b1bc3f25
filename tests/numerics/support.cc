// SPDX-License-Identifier: Apache-2.0
#include "numerics/support.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <vector>

#include "model/family.h"
#include "model/random_models.h"
#include "model_info/model_info.h"
#include "support/test_data.h"
#include "weights/checkpoint.h"
#include "weights/checkpoint_source.h"
#include "weights/random_source.h"

namespace peregrine::testing {
namespace {

/// Random tensors that are not freed when they are released, because making them takes longest.
class KeptSource : public weights::TensorSource {
 public:
  explicit KeptSource(std::uint64_t seed) : random_(seed, core::DType::kBF16) {}

  core::DType check(std::string_view name, std::span<const std::int64_t> shape) override {
    return random_.check(name, shape);
  }
  const weights::StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) override {
    return random_.require(name, shape);
  }
  void will_need(std::string_view) override {}
  void release(const weights::StoredTensor&) override {}

 private:
  weights::RandomSource random_;
};

}  // namespace

Oracle golden_oracle(const std::string& fixture, core::DType matrices,
                     const std::function<void(model::DecoderConfig&)>& adjust) {
  const std::filesystem::path path = test_data() / "golden" / fixture;
  const auto directory = model_info::ModelDirectory::open(path);
  const model::Family& family =
      model::find_family(directory.info().architecture, directory.info().model_type);
  model::DecoderConfig config = family.read_config(directory.config());
  if (adjust) adjust(config);
  const weights::Checkpoint checkpoint = weights::Checkpoint::open(path);
  weights::CheckpointSource source(checkpoint, std::string(family.optional_prefix));
  return {config, read_oracle_weights(config, family, source, matrices)};
}

RandomModel::RandomModel(std::string_view spec, std::uint64_t seed)
    : source_(std::make_unique<KeptSource>(seed)) {
  const std::string text = model::random_model_config(spec);
  const auto directory = model_info::ModelDirectory::parse(std::string(spec), text, std::nullopt);
  family_ = &model::find_family(directory.info().architecture, directory.info().model_type);
  config_ = family_->read_config(directory.config());
}

RandomModel::~RandomModel() = default;

Oracle RandomModel::oracle(core::DType matrices) {
  return {config_, read_oracle_weights(config_, *family_, *source_, matrices)};
}

std::unique_ptr<model::Decoder> RandomModel::load(ops::Device& device, const model::DecoderTypes& types) {
  return model::Decoder::load(config_, *family_, *source_, device, types, {});
}

std::int32_t top_id(const Rows& logits, std::int64_t row) {
  const double* values = logits.row(row);
  return static_cast<std::int32_t>(std::max_element(values, values + logits.cols) - values);
}

Rows device_logits(ops::Device& device, const model::Decoder& decoder, std::span<const std::int32_t> tokens,
                   std::int64_t prompt_tokens) {
  const auto rows = static_cast<std::int32_t>(tokens.size());
  const std::int32_t blocks = (rows + ops::kBlockTokens - 1) / ops::kBlockTokens;
  ops::KvCacheSpec spec = decoder.kv_cache_spec();
  spec.blocks = blocks;
  const auto cache = device.create_kv_cache(spec);
  const auto buffers = decoder.create_buffers({.rows = rows,
                                               .sequences = 1,
                                               .logit_rows = rows,
                                               .blocks_per_sequence = blocks,
                                               .slots = 1,
                                               .encoder = {}},
                                              1);
  const auto stream = device.create_stream();
  std::vector<std::int32_t> table(static_cast<std::size_t>(blocks));
  std::iota(table.rbegin(), table.rend(), 0);
  const std::vector<float> frequencies = decoder.rotary_frequencies(prompt_tokens);
  const std::vector<model::StepSequence> sequences = {
      {.tokens = tokens, .start = 0, .blocks = table, .rotary_frequencies = frequencies, .logit_rows = rows}};
  const ops::Matrix logits = decoder.forward(*stream, *buffers, *cache, sequences);
  Rows out(rows, logits.cols);
  std::vector<float> row(static_cast<std::size_t>(logits.cols));
  for (std::int64_t r = 0; r < rows; ++r) {
    stream->download(row.data(), logits.data + static_cast<std::size_t>(r * logits.stride) * sizeof(float),
                     row.size() * sizeof(float));
    stream->wait(stream->record());
    std::copy(row.begin(), row.end(), out.row(r));
  }
  return out;
}

}  // namespace peregrine::testing
