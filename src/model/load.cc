// SPDX-License-Identifier: Apache-2.0
#include "model/load.h"

#include <string>

#include "core/error.h"
#include "model/family.h"
#include "model/random_models.h"
#include "weights/checkpoint.h"
#include "weights/checkpoint_source.h"
#include "weights/random_source.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;

/// The type of the stored embedding, for a config.json that does not say.
DType embedding_type(const DecoderConfig& config, const Family& family, weights::TensorSource& source) {
  for (const auto& slot : family.model_slots(config)) {
    if (slot.slot == Slot::kTokenEmbedding)
      return source.check(slot.parts.at(0).tensor, slot.parts[0].tensor_shape);
  }
  fail(ErrorKind::kInternal, "family {} declares no token embedding", family.name);
}

DType check_weights(DType dtype) {
  if (!core::is_weight_float(dtype)) {
    fail(ErrorKind::kUnsupported,
         "option.dtype: weights of type {} are not supported; use float32, float16 or bfloat16",
         core::to_string(dtype));
  }
  return dtype;
}

DecoderTypes resolve(const LoadOptions& options, DType weights, const ops::Device& device) {
  const bool bfloat = weights == DType::kBF16 && device.supports_compute(DType::kBF16);
  DecoderTypes out;
  out.weights = weights;
  out.compute = options.compute.value_or(bfloat ? DType::kBF16 : DType::kF32);
  out.cache = options.cache.value_or(out.compute);
  return out;
}

}  // namespace

LoadedModel load_model(const std::filesystem::path& directory, ops::Device& device,
                       const LoadOptions& options) {
  LoadedModel out{model_info::ModelDirectory::open(directory), nullptr};
  const auto& info = out.directory.info();
  const Family& family = find_family(info.architecture, info.model_type);
  const DecoderConfig config = family.read_config(out.directory.config());
  const auto checkpoint = weights::Checkpoint::open(directory);
  weights::CheckpointSource source(checkpoint, std::string(family.optional_prefix));
  auto dtype = options.weights ? options.weights : info.torch_dtype;
  if (!dtype) dtype = embedding_type(config, family, source);
  const DType weights = check_weights(*dtype);
  out.decoder =
      Decoder::load(config, family, source, device, resolve(options, weights, device), options.progress);
  return out;
}

LoadedModel load_random_model(std::string_view spec, ops::Device& device, const LoadOptions& options) {
  const std::string text = random_model_config(spec);
  LoadedModel out{model_info::ModelDirectory::parse(std::string(spec), text, std::nullopt), nullptr};
  const auto& info = out.directory.info();
  const Family& family = find_family(info.architecture, info.model_type);
  const DecoderConfig config = family.read_config(out.directory.config());
  const DType weights = check_weights(options.weights.value_or(info.torch_dtype.value_or(DType::kF32)));
  weights::RandomSource source(options.random_seed, weights);
  out.decoder =
      Decoder::load(config, family, source, device, resolve(options, weights, device), options.progress);
  return out;
}

}  // namespace peregrine::model
