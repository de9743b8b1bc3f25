// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "model/decoder.h"
#include "model/decoder_config.h"
#include "model/family.h"
#include "ops/device.h"
#include "weights/tensor_source.h"

namespace peregrine::model {

/// A float32 vector on the device: the weight or bias of a norm, or the bias of a linear layer. Empty where
/// the model has none.
struct Vector {
  ops::Buffer buffer;
  std::int64_t size = 0;

  ops::Floats floats() const { return {buffer.address(), size}; }
};

struct Norm {
  Vector weight;
  Vector bias;
};

struct Linear {
  std::unique_ptr<ops::Weight> weight;
  Vector bias;
};

struct LayerWeights {
  Norm attention_norm;
  Norm mlp_norm;              ///< Empty with ResidualOrder::kParallelOneNorm.
  Norm attention_after_norm;  ///< Only with ResidualOrder::kSandwich.
  Norm mlp_after_norm;        ///< Likewise.
  Vector query_norm;          ///< [heads * head_dim]; only with head_norms.
  Vector key_norm;            ///< [kv_heads * head_dim]
  Linear qkv;
  Linear attention_out;
  Linear mlp_up;
  Linear mlp_down;
};

/// All slots of a model, filled.
struct DecoderWeights {
  std::unique_ptr<ops::Weight> embedding;
  std::unique_ptr<ops::Weight> positions;  ///< Only for learned positions.
  Linear project_in;                       ///< Only where the embedding has a width of its own.
  Linear project_out;                      ///< Likewise.
  Norm embedding_norm;
  Norm final_norm;
  Linear head;  ///< No weight where it is tied to the embedding.
  std::vector<LayerWeights> layers;
  Vector alibi_slopes;  ///< [heads]; computed by the family, not stored.

  /// Device memory of all of them, padding included.
  std::size_t bytes() const;
};

/// Fills every slot of `family` from `source`: matrices packed as `dtype`, vectors as float32. All tensors
/// are looked up, and their shapes and types compared, before the first is read. Throws Error naming tensor,
/// expected and found; kUnsupported for a tensor whose elements are not float32, float16 or bfloat16.
DecoderWeights load_weights(const DecoderConfig& config, const Family& family, weights::TensorSource& source,
                            ops::Device& device, core::DType dtype, const LoadProgress& progress);

}  // namespace peregrine::model
