// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "model/encoder_config.h"
#include "model/encoder_family.h"
#include "model/load_progress.h"
#include "model/weights.h"
#include "ops/device.h"
#include "weights/tensor_source.h"

namespace peregrine::model {

struct EncoderLayerWeights {
  Norm attention_norm;
  Norm mlp_norm;
  Linear qkv;
  Linear attention_out;
  Linear mlp_up;
  Linear mlp_down;
};

/// All slots of an encoder, filled.
struct EncoderWeights {
  std::unique_ptr<ops::Weight> embedding;
  const ops::Weight* shared_embedding = nullptr;  ///< In its place, where a decoder has the same.
  std::unique_ptr<ops::Weight> positions;         ///< Only for learned positions.
  std::unique_ptr<ops::Weight> token_types;       ///< Only with token types.
  Norm embedding_norm;
  Linear project_in;  ///< Only where the embedding has a width of its own.
  Norm final_norm;
  std::vector<EncoderLayerWeights> layers;
  Vector distance_bias;  ///< See ops::AttentionArgs; only for relative positions.
  Linear pooler;         ///< Only with has_pooler.
  Linear classifier;     ///< Only with labels.

  const ops::Weight* tokens() const {
    return shared_embedding != nullptr ? shared_embedding : embedding.get();
  }
  /// Device memory of all of them, padding included; not of a shared embedding.
  std::size_t bytes() const;
};

/// Whether `source` has the pooler of `family`, which many models are published without. Throws Error where
/// it has a pooler of another shape.
bool has_pooler(const EncoderConfig& config, const EncoderFamily& family, weights::TensorSource& source);

/// Fills every slot of `family` from `source`, but for the token embedding where it is shared; errors are
/// load_weights()'s.
EncoderWeights load_encoder_weights(const EncoderConfig& config, const EncoderFamily& family,
                                    weights::TensorSource& source, ops::Device& device, StoredTypes types,
                                    const LoadProgress& progress, const ops::Weight* shared_embedding);

}  // namespace peregrine::model
