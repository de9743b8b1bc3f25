// SPDX-License-Identifier: Apache-2.0
#include "model/load.h"

#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "model/encoder_family.h"
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
DType embedding_type(std::span<const SlotSource> slots, std::string_view family,
                     weights::TensorSource& source) {
  for (const auto& slot : slots) {
    if (slot.slot == Slot::kTokenEmbedding)
      return source.check(slot.parts.at(0).tensor, slot.parts[0].tensor_shape);
  }
  fail(ErrorKind::kInternal, "family {} declares no token embedding", family);
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
  out.quantization = options.quantization;
  if (out.quantization != core::Quantization::kNone) {
    spdlog::info("matrices are quantized to {} as they are loaded; arithmetic between them is {}",
                 core::to_string(out.quantization), core::to_string(out.compute));
  }
  return out;
}

/// What config.json says of a model.
struct Configs {
  const Family& family;
  DecoderConfig decoder;
  std::optional<EncoderConfig> encoder;  ///< Of an encoder-decoder.
};

Configs read_configs(const model_info::ModelDirectory& directory) {
  const auto& info = directory.info();
  const Family& family = find_family(info.architecture, info.model_type);
  Configs out{family, family.read_config(directory.config()), std::nullopt};
  if (family.encoder != nullptr) {
    out.encoder = family.encoder->read_config(directory.config(), info.architecture);
  }
  return out;
}

/// What a family's parts are loaded from; the encoder's is for encoder-decoders.
struct Sources {
  weights::TensorSource& decoder;
  weights::TensorSource& encoder;
};

/// Bytes of the tensors that the encoder's slots name, as they are stored; the embedding is the decoder's.
std::uint64_t stored_bytes(const EncoderFamily& family, const EncoderConfig& config,
                           weights::TensorSource& source) {
  std::uint64_t out = 0;
  const auto add = [&](const std::vector<SlotSource>& slots) {
    for (const auto& slot : slots) {
      if (slot.slot == Slot::kTokenEmbedding) continue;
      for (const auto& part : slot.parts) {
        const DType dtype = source.check(part.tensor, part.tensor_shape);
        out += weights::byte_size(part.tensor_shape, dtype).value_or(0);
      }
    }
  };
  add(family.model_slots(config));
  for (std::int32_t layer = 0; layer < config.layers; ++layer) add(family.layer_slots(config, layer));
  return out;
}

/// Loads the decoder and, where there is one, the encoder into `out`, whose directory is read.
void load_parts(const Configs& configs, const Sources& sources, ops::Device& device,
                const LoadOptions& options, LoadedModel& out) {
  const Family& family = configs.family;
  auto dtype = options.weights ? options.weights : out.directory.info().torch_dtype;
  if (!dtype) dtype = embedding_type(family.model_slots(configs.decoder), family.name, sources.decoder);
  const DecoderTypes types = resolve(options, check_weights(*dtype), device);
  const LoadProgress& progress = options.progress;
  if (!configs.encoder) {
    out.decoder = Decoder::load(configs.decoder, family, sources.decoder, device, types, progress);
    return;
  }
  const std::uint64_t encoder_bytes = stored_bytes(*family.encoder, *configs.encoder, sources.encoder);
  std::uint64_t decoder_bytes = 0;
  const auto decoder_progress = [&](std::uint64_t done, std::uint64_t total) {
    decoder_bytes = total;
    if (progress) progress(done, total + encoder_bytes);
  };
  out.decoder = Decoder::load(configs.decoder, family, sources.decoder, device, types, decoder_progress);
  const auto encoder_progress = [&](std::uint64_t done, std::uint64_t total) {
    if (progress) progress(decoder_bytes + done, decoder_bytes + total);
  };
  // It gives what the decoder takes.
  const EncoderTypes encoder_types{types.weights, types.compute, types.compute, types.quantization};
  out.encoder = Encoder::load(*configs.encoder, *family.encoder, sources.encoder, device, encoder_types,
                              encoder_progress, &out.decoder->embedding());
}

/// The family of an encoder that stands alone; null where there is a decoder.
const EncoderFamily* find_alone(const model_info::ModelDirectory& directory) {
  return find_encoder_family(directory.info().architecture, directory.info().model_type);
}

std::unique_ptr<Encoder> load_encoder(const model_info::ModelDirectory& directory,
                                      const EncoderFamily& family, weights::TensorSource& source,
                                      ops::Device& device, const LoadOptions& options) {
  const auto& info = directory.info();
  const EncoderConfig config = family.read_config(directory.config(), info.architecture);
  auto dtype = options.weights ? options.weights : info.torch_dtype;
  if (!dtype) dtype = embedding_type(family.model_slots(config), family.name, source);
  if (options.cache) {
    spdlog::warn("option.kv_cache_dtype has no effect: {} is an encoder, which keeps no keys and values",
                 directory.path().string());
  }
  const DecoderTypes types = resolve(options, check_weights(*dtype), device);
  return Encoder::load(config, family, source, device,
                       {types.weights, types.compute, DType::kF32, types.quantization}, options.progress);
}

}  // namespace

LoadedModel load_model(const std::filesystem::path& directory, ops::Device& device,
                       const LoadOptions& options) {
  LoadedModel out{model_info::ModelDirectory::open(directory), nullptr};
  if (const EncoderFamily* alone = find_alone(out.directory)) {
    const auto checkpoint = weights::Checkpoint::open(directory, {.allow_pickle = options.allow_pickle});
    weights::CheckpointSource source(checkpoint, std::string(alone->optional_prefix), alone->other_names);
    out.encoder = load_encoder(out.directory, *alone, source, device, options);
    return out;
  }
  const Configs configs = read_configs(out.directory);
  const Family& family = configs.family;
  const auto checkpoint = weights::Checkpoint::open(directory, {.allow_pickle = options.allow_pickle});
  weights::CheckpointSource decoder(checkpoint, std::string(family.optional_prefix), family.other_names);
  if (family.encoder == nullptr) {
    load_parts(configs, {decoder, decoder}, device, options, out);
  } else {
    weights::CheckpointSource encoder(checkpoint, std::string(family.encoder->optional_prefix),
                                      family.encoder->other_names);
    load_parts(configs, {decoder, encoder}, device, options, out);
  }
  return out;
}

LoadedModel load_random_model(std::string_view spec, ops::Device& device, const LoadOptions& options) {
  const std::string text = random_model_config(spec);
  LoadedModel out{model_info::ModelDirectory::parse(std::string(spec), text, std::nullopt), nullptr};
  const auto& info = out.directory.info();
  weights::RandomSource source(
      options.random_seed, check_weights(options.weights.value_or(info.torch_dtype.value_or(DType::kF32))));
  if (const EncoderFamily* alone = find_alone(out.directory)) {
    out.encoder = load_encoder(out.directory, *alone, source, device, options);
    return out;
  }
  const Configs configs = read_configs(out.directory);
  load_parts(configs, {source, source}, device, options, out);
  return out;
}

}  // namespace peregrine::model
