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
#include "model/weights.h"
#include "ops/device.h"
#include "weights/tensor_source.h"

namespace peregrine::model {

struct LayerWeights {
  Norm attention_norm;
  Norm mlp_norm;              ///< Empty with ResidualOrder::kParallelOneNorm.
  Norm attention_after_norm;  ///< Only with ResidualOrder::kSandwich.
  Norm mlp_after_norm;        ///< Likewise.
  Vector query_norm;          ///< [heads * head_dim]; only with head_norms.
  Vector key_norm;            ///< [kv_heads * head_dim]
  Linear qkv;
  Linear attention_out;
  Linear mlp_up;  ///< Empty in a layer of experts, as mlp_down.
  Linear mlp_down;
  Norm cross_norm;  ///< Only with cross_attention, as the three below.
  Linear cross_query;
  Linear cross_key_value;
  Linear cross_out;
  Linear router;                                        ///< Only in a layer of experts.
  std::vector<std::unique_ptr<ops::Weight>> expert_up;  ///< By expert, the shared one last.
  std::vector<std::unique_ptr<ops::Weight>> expert_down;
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
  Vector
      distance_bias;  ///< See ops::AttentionArgs; only for relative positions, computed from kRelativeBias.

  /// Device memory of all of them, padding included.
  std::size_t bytes() const;
};

/// Fills every slot of `family` from `source`: matrices packed as `types` says, vectors as float32. All
/// tensors are looked up, and their shapes and types compared, before the first is read. Throws Error naming
/// tensor, expected and found; kUnsupported for a tensor whose elements are not float32, float16 or bfloat16.
DecoderWeights load_weights(const DecoderConfig& config, const Family& family, weights::TensorSource& source,
                            ops::Device& device, StoredTypes types, const LoadProgress& progress);

}  // namespace peregrine::model
