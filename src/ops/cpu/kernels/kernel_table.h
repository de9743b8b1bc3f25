// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// What the kernels of every instruction set look like from outside: plain structs and a table of functions.
// Kernel sources include this and the compiler's intrinsics, nothing else: an inline function of a shared
// header that a compiler chose not to inline would be emitted with, say, AVX-512 instructions under a name
// that all objects share, and the linker keeps only one of them. tests/ops_cpu checks the objects' symbols.

namespace peregrine::ops::cpu {

/// Output rows side by side in a packed panel: one logical vector.
inline constexpr int kPanelRows = 16;

/// Panels that a linear work item covers at most: four streams of weights, 64 output rows.
inline constexpr int kTilePanels = 4;

/// Rows of the batch whose float32 sums are kept while K is walked in blocks: 512 x 64 floats are 128 KiB,
/// well inside a core's L2.
inline constexpr int kRowBlock = 512;

/// Query vectors that one attention work item holds at most.
inline constexpr int kAttentionQueries = 48;

/// Tokens of a KV block and of an attention segment (checked against device.h in the device).
inline constexpr int kCacheBlock = 16;
inline constexpr int kSegment = 128;

enum class Number : std::uint8_t { kF32, kF16, kBF16, kI8 };

/// How activations are packed for matrix products.
enum class Packing : std::uint8_t {
  kFloats,     ///< float32.
  kBf16Pairs,  ///< bfloat16, two k side by side.
  kByteQuads,  ///< int8, four k side by side.
  kWordPairs,  ///< int8 widened to 16 bits; of four k first the two even ones side by side, then the odd
               ///< ones.
};

enum class ActivationKind : std::uint8_t { kNone, kGelu, kGeluTanh, kSilu, kRelu, kTanh };

/// Activations of a linear operation, packed for broadcasting: for each block of K, for each group of rows,
/// for each k (or pair of k), the group's values side by side. Rows are dealt to groups as evenly as
/// possible; the first `rows % groups` groups have one more.
struct LinearPlan {
  std::int64_t rows = 0;     ///< At most kRowBlock.
  std::int64_t k = 0;        ///< Padded to even, with int8 weights to a multiple of 4.
  std::int64_t groups = 0;   ///< One of at most stream_tokens rows, or several.
  std::int64_t k_block = 0;  ///< A multiple of the same.
  Packing packing = Packing::kFloats;
  bool widen = false;  ///< Widen each block of weights to float32 in scratch memory first.
};

/// What int8 activations were multiplied with: x is about scale * q.
struct RowQuantization {
  float scale = 0;
  std::int32_t offset = 0;  ///< 128 times the sum of all q: what weights stored plus 128 add too much.
};

struct PackActivationsTask {
  LinearPlan plan;
  const std::byte* in = nullptr;  ///< [rows, in_cols] of `type`, row stride in elements.
  Number type = Number::kF32;
  std::int64_t in_cols = 0;
  std::int64_t in_stride = 0;
  std::byte* packed = nullptr;           ///< rows * k elements of packed_size() bytes.
  RowQuantization* quantized = nullptr;  ///< [rows], written where the packing is of int8.
};

struct LinearTask {
  LinearPlan plan;
  const std::byte* activations = nullptr;      ///< As packed by pack_activations.
  const RowQuantization* quantized = nullptr;  ///< [rows], with int8 weights.
  const float* channel_scales = nullptr;       ///< [n padded to panels], with int8 weights.
  const std::byte* weight = nullptr;           ///< Panels; see weight.h.
  std::int64_t panel_bytes = 0;
  Number weight_type = Number::kF32;
  std::int64_t n = 0;  ///< Output columns.
  const float* bias = nullptr;
  ActivationKind activation = ActivationKind::kNone;
  float soft_cap = 0;  ///< 0: none.
  const float* residual = nullptr;
  std::int64_t residual_stride = 0;
  std::byte* out = nullptr;
  Number out_type = Number::kF32;
  std::int64_t out_stride = 0;
};

struct NormTask {
  bool rms = false;
  float epsilon = 0;
  const float* in = nullptr;
  std::int64_t in_stride = 0;
  std::int64_t in_rows = 0;
  const std::int32_t* row_index = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;
  std::int64_t residual_stride = 0;
  std::int64_t width = 0;
  std::byte* out = nullptr;
  Number out_type = Number::kF32;
  std::int64_t out_stride = 0;
};

struct GatedTask {
  ActivationKind activation = ActivationKind::kSilu;
  const std::byte* in = nullptr;
  Number in_type = Number::kF32;
  std::int64_t in_stride = 0;
  std::byte* out = nullptr;
  Number out_type = Number::kF32;
  std::int64_t out_stride = 0;
  std::int64_t n = 0;
};

/// Element type of a KV cache.
enum class CacheType : std::uint8_t { kF32, kBF16, kInt8 };

/// Where a cache's layer lies; see kv_cache.h for what is in a piece.
struct CacheView {
  std::byte* cache = nullptr;  ///< Piece of block 0, this layer, key-value head 0.
  CacheType cache_type = CacheType::kF32;
  std::int64_t block_bytes = 0;
  std::int64_t head_bytes = 0;   ///< One piece.
  std::int64_t key_bytes = 0;    ///< Size of a piece's key panel.
  std::int64_t scale_bytes = 0;  ///< 8-bit: 16 scales of keys begin here in a piece, then 16 of values.
};

struct AttentionTask : CacheView {
  const std::byte* queries = nullptr;
  std::byte* out = nullptr;
  Number query_type = Number::kF32;
  std::int64_t query_stride = 0;
  std::int64_t out_stride = 0;
  std::int64_t head_dim = 0;
  std::int64_t group = 0;  ///< Query heads per key-value head.
  /// Floats of a state (see AttentionItem): head_dim padded to kPanelRows, and kPanelRows more.
  std::int64_t state_stride = 0;

  const std::int32_t* positions = nullptr;
  std::int64_t window = 0;  ///< Keys that a query sees, its own included; 0: all.
  float scale = 1;
  float soft_cap = 0;  ///< 0: none.
  const float* slopes = nullptr;
  float slope_scale = 1;
  bool slopes_in_bfloat16 = false;
  /// Of each head 2 * distance_limit + 1 biases, for key minus query positions from -distance_limit on;
  /// beyond, the outermost count. Null: none.
  const float* distance_bias = nullptr;
  std::int64_t distance_limit = 0;
};

/// Query vectors [begin, begin + count) of one sequence and key-value head, numbered row by row (row begin /
/// group), against the segments [first_segment, end_segment) of its cached positions: all that any of them
/// sees, or, with `states`, some of them.
struct AttentionItem {
  std::int64_t first_row = 0;  ///< The sequence's first row in the batch.
  std::int64_t kv_head = 0;
  std::int64_t begin = 0;
  int count = 0;  ///< At most kAttentionQueries.
  const std::int32_t* block_table = nullptr;
  std::int64_t length = 0;  ///< Where positive, all see this many positions, whatever their own.
  std::int64_t first_segment = 0;
  std::int64_t end_segment = 0;
  /// Null: what is seen is merged, divided and written to the task's out. Otherwise each segment's state of
  /// each query vector, a row of state_stride floats, is written here: those of segment s, vector i at
  /// (s - first_segment) * segment_stride + i * state_stride.
  float* states = nullptr;
  std::int64_t segment_stride = 0;
};

/// Which of several calls of merge_states for the same query vectors one is.
struct MergeTurn {
  bool first;  ///< The running states begin here.
  bool last;   ///< The outputs are written.
};

/// Rotation, norms and storing of heads; see RotateAndStoreArgs.
struct RotateTask : CacheView {
  std::byte* qkv = nullptr;  ///< Rows of all query heads, all key heads, all value heads.
  Number type = Number::kF32;
  std::int64_t stride = 0;
  std::int64_t head_dim = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  const float* cosines = nullptr;  ///< Null: no rotation.
  const float* sines = nullptr;
  std::int64_t cosine_stride = 0;
  std::int64_t sine_stride = 0;
  std::int64_t half = 0;              ///< Rotated width / 2.
  bool pairs = false;                 ///< Elements 2 i and 2 i + 1 are a pair; else i and i + half.
  float clip = 0;                     ///< 0: none.
  const float* query_norm = nullptr;  ///< Weights, [heads][head_dim]; null: no norms.
  const float* key_norm = nullptr;
  bool centered = false;  ///< The norms subtract the mean first.
  float epsilon = 0;
};

/// Heads [begin, end) of one row, query heads first, then keys', then values'.
struct RotateItem {
  std::int64_t row = 0;
  std::int64_t block = 0;  ///< Where its position is: block and place in it.
  std::int64_t slot = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// The kernels of one instruction set. All are pure functions of their arguments and may run on any number of
/// threads on disjoint outputs. `scratch` is 64-byte aligned memory of the calling thread.
struct KernelTable {
  const char* name;
  int tile_tokens;    ///< Rows of the batch in a register tile beside as many panels as it can have.
  int stream_tokens;  ///< The most that a tile can have, with fewer panels.
  bool dot_bf16;      ///< bfloat16 pairs are multiplied by an instruction made for them.
  bool dot_int8;      ///< Likewise quads of bytes.
  const char* arithmetic;

  std::size_t linear_scratch;  ///< Bytes that `linear` needs.
  std::size_t (*attention_scratch)(std::int64_t head_dim);
  std::size_t (*rotate_scratch)(std::int64_t head_dim);

  void (*pack_activations)(const PackActivationsTask& task, std::int64_t group_begin, std::int64_t group_end);
  /// Computes output columns [16 * panel, 16 * (panel + count)), count <= kTilePanels, of all rows.
  void (*linear)(const LinearTask& task, std::int64_t panel, int count, std::byte* scratch);
  void (*norm)(const NormTask& task, std::int64_t row);
  void (*gated)(const GatedTask& task, std::int64_t row, std::int64_t begin, std::int64_t end);
  void (*attention)(const AttentionTask& task, const AttentionItem& item, std::byte* scratch);
  /// Merges item.states into the running states of the same query vectors, in order.
  void (*merge_states)(const AttentionTask& task, const AttentionItem& item, float* running, MergeTurn turn);
  void (*rotate)(const RotateTask& task, const RotateItem& item, std::byte* scratch);

  /// Reads `bytes` (a multiple of 4096) in four parallel streams; returns something that depends on all of
  /// it.
  float (*read_memory)(const std::byte* data, std::size_t bytes);
  /// Runs register-only multiply-adds and returns how many floating-point operations that were.
  double (*spin_f32)(std::int64_t iterations);
  /// The same in the instructions that bfloat16 matrix products use.
  double (*spin_bf16)(std::int64_t iterations);
  /// The same in those of int8 products; integer operations.
  double (*spin_int8)(std::int64_t iterations);
};

}  // namespace peregrine::ops::cpu
