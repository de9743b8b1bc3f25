// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace peregrine::model {

/// The places for weights in a decoder. Layer slots exist once per layer.
enum class Slot : std::uint8_t {
  kTokenEmbedding,      ///< [vocab, embedding width]
  kPositionEmbedding,   ///< [learned.rows, hidden]; only for learned positions.
  kTokenTypeEmbedding,  ///< [token types, embedding width]; only in encoders (BERT's segments).
  kRelativeBias,        ///< [buckets, heads]; only for relative positions.
  kProjectIn,           ///< [hidden, embedding_size]; only where the embedding has a width of its own.
  kProjectInBias,       ///< [hidden]; only in encoders.
  kProjectOut,          ///< [embedding_size, hidden]; likewise.
  kEmbeddingNormWeight,
  kEmbeddingNormBias,
  kFinalNormWeight,  ///< [hidden]
  kFinalNormBias,
  kHead,  ///< [vocab, embedding width]; absent where the head is tied.
  kHeadBias,
  kPooler,  ///< [hidden, hidden]; only in encoders: before the classifier (or BERT's pooler).
  kPoolerBias,
  kClassifier,  ///< [labels, hidden]; only in encoders.
  kClassifierBias,
  // Once per layer.
  kAttentionNormWeight,
  kAttentionNormBias,
  kMlpNormWeight,
  kMlpNormBias,
  kAttentionAfterNormWeight,  ///< [hidden]: of what attention gives (ResidualOrder::kSandwich).
  kMlpAfterNormWeight,        ///< [hidden]: of what the MLP gives (likewise).
  kQueryNorm,                 ///< [heads * head_dim]: weights of the queries' norms, head by head.
  kKeyNorm,                   ///< [kv_heads * head_dim]
  kQkv,                       ///< [(heads + 2 kv_heads) * head_dim, hidden]: queries, keys, values.
  kQkvBias,
  kAttentionOut,  ///< [hidden, heads * head_dim]
  kAttentionOutBias,
  kMlpUp,  ///< [intermediate or 2 * intermediate, hidden]: gate before up.
  kMlpUpBias,
  kMlpDown,  ///< [hidden, intermediate]
  kMlpDownBias,
  kCrossNormWeight,  ///< [hidden]: before cross-attention, as the ones below only with cross_attention.
  kCrossNormBias,
  kCrossQuery,     ///< [heads * head_dim, hidden]
  kCrossKeyValue,  ///< [2 kv_heads * head_dim, hidden of the encoder]: keys, values.
  kCrossOut,       ///< [hidden, heads * head_dim]
  kRouter,    ///< [experts, hidden], and the shared expert's gate as a last row; as the ones below only with
              ///< experts.
  kExpertUp,  ///< [2 * its intermediate, hidden]: gate before up. Once for each expert, the shared one last.
  kExpertDown,  ///< [hidden, its intermediate]. Once for each expert, the shared one last.
};

const char* to_string(Slot slot);

/// Whether a slot is stored in another type when a model is quantized: the matrices of all products, and the
/// token embedding, which may be the output layer as well. Tables that are added to it are too small to
/// matter, and a router stays as it is because choosing experts is no continuous function: the least error
/// may choose others.
bool is_quantized(Slot slot);

/// How tensor parallelism cuts a slot. Declared by the family, never guessed from names.
enum class Cut : std::uint8_t {
  kReplicated,  ///< Every rank holds all of it.
  kColumn,      ///< Output rows are cut; each part of a fused slot on its own.
  kRow,         ///< Input columns are cut; the partial outputs are summed.
  kHeadGroup,   ///< Output rows are cut by whole groups of query heads with their key-value head.
  kVocabulary,  ///< Rows are vocabulary entries.
};

/// What matrices are stored as on a device.
struct StoredTypes {
  core::DType floats = core::DType::kF32;  ///< Those that are not quantized: float32, float16 or bfloat16.
  core::Quantization quantization = core::Quantization::kNone;

  core::DType of(Slot slot) const;
  /// Of the matrices that make up nearly all of a model.
  core::DType most() const { return of(Slot::kMlpUp); }
};

/// Rows [first, first + count * step) of a stored tensor in runs: `run` rows are taken, then rows are skipped
/// up to `step`, `count` times. One run of everything: {0, rows, rows, 1}.
struct RowRuns {
  std::int64_t first = 0;
  std::int64_t run = 0;
  std::int64_t step = 0;
  std::int64_t count = 0;
};

/// A named part of a fused slot (query, key, value, gate, up) with where its rows come from. Parts keep their
/// names and row ranges so that adapters and slicing can address them.
struct Part {
  std::string name;    ///< "q", "k", "v", "gate", "up", or "" where the slot is not fused.
  std::string tensor;  ///< Tensor name in the checkpoint.
  std::vector<std::int64_t> tensor_shape;  ///< Full shape the checkpoint must have.
  RowRuns rows;                            ///< Which of its rows, in the order in which they are taken.
};

/// Everything needed to fill a slot from a checkpoint.
struct SlotSource {
  Slot slot;
  Cut cut = Cut::kReplicated;
  std::vector<Part> parts;  ///< Stacked in this order.
  bool transposed = false;  ///< Stored as [in, out] (GPT-2's Conv1D); runs then count columns.
  std::int32_t expert = 0;  ///< Of kExpertUp and kExpertDown: which one.
};

}  // namespace peregrine::model
