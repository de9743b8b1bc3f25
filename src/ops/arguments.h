// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/dtype.h"
#include "ops/tensor.h"

// The argument structs of a stream's operations. All addresses are device addresses; everything an argument
// points to must stay as it is until the operation has run (see Stream::record). Rows means rows of the
// step's ragged batch: the tokens of all its sequences, one sequence after the other, nothing padded.

namespace peregrine::ops {

class Weight;
class KvCache;

/// How the rows of a step belong to sequences, and where each sequence's keys and values lie.
struct Batch {
  std::int32_t rows = 0;       ///< Tokens in this step.
  std::int32_t sequences = 0;  ///< Sequences in this step.
  Ints token_ids;        ///< [rows]; an id >= 0, or ~slot for "the token last written to slot_tokens[slot]".
  Ints slot_tokens;      ///< [slots]; the token sampled last in each slot.
  Ints positions;        ///< [rows]; absolute position in its sequence, from 0.
  Ints row_sequence;     ///< [rows]; which sequence of the step (0-based).
  Ints sequence_starts;  ///< [sequences + 1]; first row of each sequence. A sequence's positions are
                         ///< consecutive.
  Ints block_tables;     ///< [sequences * table_stride]; KV block of each 16 positions.
  std::int32_t table_stride = 0;
};

/// out[i] = scale * table[token_ids[i] + offset], or that added to out[i]; out is float32. An id outside the
/// table counts as a row of zeros. An element of an int8 table is its integer times its row's scale, rounded
/// to float32. Learned positions (Radford et al. 2019) are added by a second operation whose ids are the
/// positions.
struct EmbedArgs {
  Ints token_ids;
  Ints slot_tokens;
  const Weight* table = nullptr;  ///< [vocabulary, width], either layout.
  float scale = 1.0f;
  Matrix out;               ///< [rows, width] float32.
  std::int32_t offset = 0;  ///< Added to every id; OPT's positions begin at row 2.
  bool accumulate = false;  ///< Adds to out.
};

enum class NormKind : std::uint8_t {
  kLayer,  ///< (x - mean) / sqrt(variance + epsilon) * weight + bias (Ba et al. 2016).
  kRms,    ///< x / sqrt(mean of squares + epsilon) * weight (Zhang and Sennrich 2019).
  kNone,   ///< x: rows are gathered and converted only. Weight, bias and residual are not used.
};

/// Row-wise normalisation, out = norm(in) + residual. One row's sum is never split over threads.
struct NormArgs {
  NormKind kind = NormKind::kLayer;
  float epsilon = 1e-5f;
  Matrix in;       ///< [any, width] float32.
  Ints row_index;  ///< Optional [out.rows]: out row i normalises in row row_index[i]; else row i.
  Floats weight;   ///< [width].
  Floats bias;     ///< Optional [width].
  /// [rows, width] float32 or bfloat16; may be the same memory as `in` where there is no row_index.
  Matrix out;
  Matrix residual = {};  ///< Optional [rows, width] float32; may be the same memory as out.
};

enum class Activation : std::uint8_t {
  kNone,
  kGelu,      ///< x * Phi(x), with the error function.
  kGeluTanh,  ///< The tanh approximation (GPT-2's "gelu_new", "gelu_pytorch_tanh").
  kSilu,      ///< x * sigmoid(x).
  kRelu,
  kTanh,
};

/// out = soft_cap(activation(in * weight^T + bias)) + residual, accumulated in float32, each output element
/// over K in one fixed order for every number of rows and threads. bfloat16 `in` with a bfloat16 weight
/// multiplies in bfloat16 (products exact in float32); every other pair of floats multiplies in float32. For
/// an int8 weight every row of `in` is quantized by itself, as Weight says; the integers' products are summed
/// exactly in int32, and in * weight^T is float32(sum) * (the row's scale * the scale of the weight's row):
/// nothing finite for a row with an element that is not, which other rows never notice.
struct LinearArgs {
  Matrix in;                       ///< [rows, K] float32 or bfloat16.
  const Weight* weight = nullptr;  ///< [N, K].
  Floats bias;                     ///< Optional [N].
  Activation activation = Activation::kNone;
  Matrix residual;        ///< Optional [rows, N] float32; may be the same memory as out.
  Matrix out;             ///< [rows, N] float32 or bfloat16; must not overlap `in`.
  float soft_cap = 0.0f;  ///< Where positive, x becomes soft_cap * tanh(x / soft_cap) (Gemma 2's logits).
};

/// Two products side by side, neither of which reads what the other writes: what linear() gives for each.
/// Where both read the same rows (a parallel layer's queries, keys and values beside its feed-forward part),
/// these are prepared once, and the threads meet once.
struct LinearPairArgs {
  LinearArgs first;
  LinearArgs second;
};

/// out = activation(in[:, :n]) * in[:, n:], n = out.cols. out may have any float type; must not overlap `in`.
struct GatedActivationArgs {
  Activation activation = Activation::kSilu;
  Matrix in;   ///< [rows, 2 n].
  Matrix out;  ///< [rows, n].
};

/// Cosines and sines of position * inverse_frequency, each times `scale` (Su et al. 2021). The product is
/// rounded to float32 before the cosine, as in transformers.
struct RotaryAnglesArgs {
  Batch batch;
  Floats inverse_frequencies;  ///< [sequences * half]: each sequence has its own (length-dependent scaling).
  std::int32_t half = 0;       ///< Rotated width / 2.
  float scale = 1.0f;          ///< "attention factor" of yarn and longrope.
  Matrix cosines;              ///< [rows, half] float32.
  Matrix sines;                ///< [rows, half] float32.
};

enum class RotaryStyle : std::uint8_t {
  kHalves,  ///< Pairs (i, i + half): GPT-NeoX, Llama, Falcon.
  kPairs,   ///< Pairs (2 i, 2 i + 1): GPT-J.
};

/// Rotates queries in place, and writes rotated keys, and values, to the cache at each row's position. Before
/// they are rotated, queries, keys and values are clipped, and then every head of the queries and of the keys
/// is normalised over its width, where that is asked for. All of it happens in float32 and is rounded once:
/// queries to their type, keys and values from float32 to what the cache stores (see KvCacheSpec).
/// Rotated, a pair (x, y) is (x cos - y sin, y cos + x sin), each product and each sum rounded.
struct RotateAndStoreArgs {
  Batch batch;
  Matrix qkv;  ///< [rows, (heads + 2 kv_heads) * head_dim]: all query heads, all key heads, all value heads.
  std::int32_t heads = 0;  ///< Of queries; 0: there are only keys and values.
  Matrix cosines;          ///< Optional: none means no rotation.
  Matrix sines;
  RotaryStyle style = RotaryStyle::kHalves;
  KvCache* cache = nullptr;  ///< kv_heads, head_dim and the stored type are the cache's.
  std::int32_t layer = 0;
  float clip = 0.0f;       ///< Where positive, values are limited to [-clip, clip] (MPT's clip_qkv).
  Floats query_norm = {};  ///< Optional [heads * head_dim]: weights of the queries' norms, without bias.
  Floats key_norm = {};    ///< [kv_heads * head_dim]; there if and only if query_norm is.
  NormKind head_norm = NormKind::kLayer;  ///< kLayer or kRms.
  float head_norm_epsilon = 1e-5f;
};

/// Attention of every row over its sequence's cached positions 0..position (its own included), or, with
/// `lengths`, over the first lengths[sequence] of them whatever its own position (encoders and
/// cross-attention); query head h reading key-value head h / (heads / kv_heads). Keys are walked in segments
/// of a fixed number of positions anchored at 0, each from a fresh softmax state, merged in order; keys and
/// values are read as the cache stores them. score = soft_cap(scale * (q . k)) + bias of the key's position
/// or distance. With bfloat16 queries each probability is rounded to bfloat16 before it weighs a value, and
/// the sum they are divided by is that of the rounded ones.
///
/// With an int8 cache the sums are over the integers, widened to float32, and the scales come in once each: q
/// . k is (q . integers) * the key's scale, and what weighs a value's integers is the probability (rounded as
/// above) * the value's scale. Queries, scores, weights and sums stay in float32.
struct AttentionArgs {
  Batch batch;
  Matrix queries;  ///< [rows, heads * head_dim] float32 or bfloat16.
  std::int32_t heads = 0;
  const KvCache* cache = nullptr;
  std::int32_t layer = 0;
  float scale = 1.0f;
  float soft_cap = 0.0f;  ///< Where positive, x becomes soft_cap * tanh(x / soft_cap) (Gemma 2).
  /// Where positive, a row sees the last `window` positions only, its own included (Beltagy et al. 2020). The
  /// others weigh exactly nothing.
  std::int32_t window = 0;
  Floats
      alibi_slopes;  ///< Optional [heads] (Press et al. 2021): the bias is alibi_scale * (slope * position).
  float alibi_scale = 1.0f;
  /// Slope, position and their product are each rounded to bfloat16 (Falcon).
  bool alibi_in_bfloat16 = false;
  /// Optional [sequences], each from 1: positions that every row of a sequence sees. Without window.
  Ints lengths = {};
  /// Optional [heads * (2 * distance_limit + 1)] (Raffel et al. 2020): the bias of head h for key position k
  /// and query position q is element h * (2 * distance_limit + 1) + distance_limit + clamp(k - q,
  /// -distance_limit, distance_limit). Without alibi_slopes.
  Floats distance_bias = {};
  std::int32_t distance_limit = 0;
  Matrix out;  ///< [rows, heads * head_dim], same type as queries; must not overlap it.
};

/// Chooses each row's experts: the `per_row` highest of the first `experts` scores, best first, ties to the
/// lower index and what is no number counting as the lowest, weighed by the softmax over those scores
/// (float32), divided by the chosen ones' sum where `normalized`. With `shared`, scores has one more column,
/// the gate of an expert that every row takes: it is the last one chosen, with index `experts` and weight
/// sigmoid(score).
struct RouteArgs {
  Matrix scores;  ///< [rows, experts (+ 1)] float32.
  std::int32_t experts = 0;
  std::int32_t per_row = 0;
  bool normalized = true;
  bool shared = false;
  Ints chosen;     ///< [rows * (per_row (+ 1))]
  Floats weights;  ///< As chosen.
};

/// out[i] = residual[i] + the sum over rank r, in order, of weights[i][r] * down_e(activation(gate_e(in[i]))
/// * up_e(in[i])), e = chosen[i][r]; products as linear() has them, each row's sum the same whatever other
/// rows there are. An expert nobody chose costs nothing.
struct ExpertsArgs {
  Matrix in;                                      ///< [rows, hidden] float32 or bfloat16.
  std::span<const std::unique_ptr<Weight>> up;    ///< By expert: [2 * its width, hidden], gate before up.
  std::span<const std::unique_ptr<Weight>> down;  ///< By expert: [hidden, its width].
  Activation activation = Activation::kSilu;
  std::int32_t per_row = 0;  ///< Experts of each row, the shared one included.
  Ints chosen;               ///< [rows * per_row]
  Floats weights;            ///< [rows * per_row]
  // Scratch for all pairs of a row and an expert, in any order.
  Ints order;       ///< [rows * per_row + experts + 1]
  Matrix gathered;  ///< [rows * per_row, hidden], same type as in.
  Matrix raised;    ///< [rows * per_row, 2 * the widest expert's width], likewise.
  Matrix gated;     ///< [rows * per_row, the widest expert's width], likewise.
  Matrix lowered;   ///< [rows * per_row, hidden] float32.
  Matrix residual;  ///< [rows, hidden] float32; may be the same memory as out.
  Matrix out;       ///< [rows, hidden] float32.
};

/// Copies whole blocks within a cache, all layers: block pairs[2 i] to block pairs[2 i + 1].
struct CopyBlocksArgs {
  KvCache* cache = nullptr;
  Ints pairs;  ///< [2 * count]
  std::int32_t count = 0;
};

}  // namespace peregrine::ops
