// SPDX-License-Identifier: Apache-2.0
#include "model/slots.h"

namespace peregrine::model {

bool is_quantized(Slot slot) {
  switch (slot) {
    case Slot::kTokenEmbedding:
    case Slot::kProjectIn:
    case Slot::kProjectOut:
    case Slot::kHead:
    case Slot::kPooler:
    case Slot::kClassifier:
    case Slot::kQkv:
    case Slot::kAttentionOut:
    case Slot::kMlpUp:
    case Slot::kMlpDown:
    case Slot::kCrossQuery:
    case Slot::kCrossKeyValue:
    case Slot::kCrossOut:
    case Slot::kExpertUp:
    case Slot::kExpertDown:
      return true;
    default:
      return false;
  }
}

core::DType StoredTypes::of(Slot slot) const {
  return quantization == core::Quantization::kInt8 && is_quantized(slot) ? core::DType::kI8 : floats;
}

const char* to_string(Slot slot) {
  switch (slot) {
    case Slot::kTokenEmbedding:
      return "token embedding";
    case Slot::kPositionEmbedding:
      return "position embedding";
    case Slot::kTokenTypeEmbedding:
      return "token type embedding";
    case Slot::kRelativeBias:
      return "relative position bias";
    case Slot::kProjectInBias:
      return "bias of the embedding's projection";
    case Slot::kPooler:
      return "pooler";
    case Slot::kPoolerBias:
      return "pooler bias";
    case Slot::kClassifier:
      return "classifier";
    case Slot::kClassifierBias:
      return "classifier bias";
    case Slot::kCrossNormWeight:
      return "cross-attention norm weight";
    case Slot::kCrossNormBias:
      return "cross-attention norm bias";
    case Slot::kCrossQuery:
      return "cross-attention query";
    case Slot::kCrossKeyValue:
      return "cross-attention key-value";
    case Slot::kCrossOut:
      return "cross-attention output";
    case Slot::kRouter:
      return "router";
    case Slot::kExpertUp:
      return "expert up";
    case Slot::kExpertDown:
      return "expert down";
    case Slot::kProjectIn:
      return "projection of the embedding";
    case Slot::kProjectOut:
      return "projection before the output layer";
    case Slot::kEmbeddingNormWeight:
      return "embedding norm weight";
    case Slot::kEmbeddingNormBias:
      return "embedding norm bias";
    case Slot::kFinalNormWeight:
      return "final norm weight";
    case Slot::kFinalNormBias:
      return "final norm bias";
    case Slot::kHead:
      return "output layer";
    case Slot::kHeadBias:
      return "output layer bias";
    case Slot::kAttentionNormWeight:
      return "attention norm weight";
    case Slot::kAttentionNormBias:
      return "attention norm bias";
    case Slot::kMlpNormWeight:
      return "MLP norm weight";
    case Slot::kMlpNormBias:
      return "MLP norm bias";
    case Slot::kAttentionAfterNormWeight:
      return "norm weight behind attention";
    case Slot::kMlpAfterNormWeight:
      return "norm weight behind the MLP";
    case Slot::kQueryNorm:
      return "query norm weight";
    case Slot::kKeyNorm:
      return "key norm weight";
    case Slot::kQkv:
      return "query-key-value";
    case Slot::kQkvBias:
      return "query-key-value bias";
    case Slot::kAttentionOut:
      return "attention output";
    case Slot::kAttentionOutBias:
      return "attention output bias";
    case Slot::kMlpUp:
      return "MLP up";
    case Slot::kMlpUpBias:
      return "MLP up bias";
    case Slot::kMlpDown:
      return "MLP down";
    case Slot::kMlpDownBias:
      return "MLP down bias";
  }
  return "?";
}

}  // namespace peregrine::model
