// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: matrix products with packed weights.
//
// A work item is a strip of up to 4 panels (64 output columns) against all rows of the batch. For many rows,
// K is walked in blocks small enough that the strip's weights stay in L1 while all groups of rows pass by;
// their sums wait in a buffer in L2 meanwhile. For one group of rows the weights are streamed once, straight
// through.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

inline constexpr int kSumsStride = kTilePanels * kPanelRows;
/// Longest block of K that is widened beforehand: 64 rows x 128 x 4 bytes are 32 KiB of a 32 or 48 KiB L1.
inline constexpr std::int64_t kWidenedBlock = 128;
inline constexpr std::size_t kSumsBytes = sizeof(float) * kRowBlock * kSumsStride;
inline constexpr std::size_t kWidenedBytes = sizeof(float) * kWidenedBlock * kSumsStride;
inline constexpr std::size_t kLinearScratch = kSumsBytes + kWidenedBytes;
/// How far a stream of weights is fetched ahead. From 1 to 4 KiB measure alike with four streams a thread;
/// one stream alone (a narrow strip) needs 4 KiB for the same speed.
inline constexpr std::int64_t kStreamAhead = 4096;

template <int kTokens>
using InterleavedOf = Interleaved<kTokens>;

/// Widens k in [begin, begin + depth) of a panel to [depth][16] floats.
inline void widen_panel(Number type, const std::byte* panel, std::int64_t begin, std::int64_t depth,
                        float* out) {
  if (type == Number::kF16) {
    for (std::int64_t k = 0; k < depth; ++k) store(out + k * 16, load_f16(panel + (begin + k) * 32));
    return;
  }
  for (std::int64_t k = 0; k < depth; k += 2) {
    const Vector pairs = load(panel + (begin + k) * 32);
    store(out + k * 16, widen_even(pairs));
    store(out + (k + 1) * 16, widen_odd(pairs));
  }
}

/// Sums of quantized products as what they stand for.
PEREGRINE_INLINE Vector dequantize(const LinearTask& task, std::int64_t row, std::int64_t column,
                                   const float* sums) {
  const RowQuantization& quantized = task.quantized[row];
  const IntVector sum = sub(load_ints(sums), splat_ints(quantized.offset));
  return mul(to_floats(sum), mul(splat(quantized.scale), load(task.channel_scales + column)));
}

/// The sums of one row through bias, activation, soft cap and residual to the output.
inline void finish_row(const LinearTask& task, std::int64_t row, std::int64_t first_column, int panels,
                       const float* sums) {
  for (int p = 0; p < panels; ++p) {
    const std::int64_t column = first_column + p * kPanelRows;
    const std::int64_t lanes = task.n - column < 16 ? task.n - column : 16;
    Vector value = task.weight_type == Number::kI8 ? dequantize(task, row, column, sums + p * kPanelRows)
                                                   : load(sums + p * kPanelRows);
    if (task.bias != nullptr) value = add(value, load_lanes(task.bias + column, lanes));
    value = activate(task.activation, value);
    if (task.soft_cap > 0) value = soft_cap(task.soft_cap, value);
    if (task.residual != nullptr) {
      value = add(value, load_lanes(task.residual + row * task.residual_stride + column, lanes));
    }
    store_as(task.out_type, task.out + (row * task.out_stride + column) * bytes_of(task.out_type), value,
             lanes);
  }
}

/// One strip's place in its weight, and the memory that a thread works in.
struct Strip {
  const std::byte* panels;  ///< First panel.
  std::int64_t panel_bytes;
  int count;
  float* sums;     ///< [kRowBlock][kSumsStride]
  float* widened;  ///< [count][kWidenedBlock][16]
};

/// Adds k in [begin, begin + depth) to the sums of all rows.
template <typename Panel>
inline void block_product(const LinearTask& task, const Strip& strip, std::int64_t begin,
                          std::int64_t depth) {
  const LinearPlan& plan = task.plan;
  const std::int64_t stored = kPanelRows * stored_bytes(task.weight_type);  // of a panel per k
  const std::int64_t groups = plan.groups;
  const std::byte* weights = strip.panels + begin * stored;
  std::int64_t weights_stride = strip.panel_bytes;
  if (plan.widen) {
    for (int p = 0; p < strip.count; ++p) {
      widen_panel(task.weight_type, strip.panels + p * strip.panel_bytes, begin, depth,
                  strip.widened + p * kWidenedBlock * 16);
    }
    weights = reinterpret_cast<const std::byte*>(strip.widened);
    weights_stride = kWidenedBlock * 64;
  }
  TileArgs args{};
  args.steps = depth / Panel::kDepth;
  args.sums_stride = kSumsStride;
  args.resume = begin > 0;
  args.ahead = kStreamAhead;
  const auto panel_at = [=](std::int64_t p) PEREGRINE_LAMBDA { return weights + p * weights_stride; };
  // While the groups pass, the strip's next block is fetched: two panels at a time, each over as many groups
  // as there are for it, line by line. (With one group the block is all there is: a stream that fetches ahead
  // of itself.)
  const std::int64_t block_bytes = depth * stored;
  const std::int64_t groups_per_panel = groups / 2 > 0 ? groups / 2 : 1;
  const std::int64_t pairs_of_panels = begin + depth < plan.k ? (strip.count + 1) / 2 : 0;
  args.next_step = (block_bytes + groups_per_panel * args.steps - 1) / (groups_per_panel * args.steps);
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t row = group_row(plan, g);
    const int tokens = static_cast<int>(group_row(plan, g + 1) - row);
    args.x = task.activations + (begin * plan.rows + row * depth) * (4 * Panel::kValues) / Panel::kDepth;
    args.sums = strip.sums + row * kSumsStride;
    const std::int64_t fetched = g / groups_per_panel;  // panels complete in each half of the strip
    if (groups == 1) {
      run_tiles<Panel, Prefetch::kStream, InterleavedOf>(tokens, strip.count, panel_at, args);
    } else if (fetched < pairs_of_panels) {
      const std::int64_t offset = g % groups_per_panel * args.next_step * args.steps;
      args.next[0] = strip.panels + fetched * strip.panel_bytes + (begin + depth) * stored + offset;
      args.next[1] = args.next[0] + strip.count / 2 * strip.panel_bytes;
      run_tiles<Panel, Prefetch::kSpread, InterleavedOf>(tokens, strip.count, panel_at, args);
    } else {
      run_tiles<Panel, Prefetch::kNone, InterleavedOf>(tokens, strip.count, panel_at, args);
    }
  }
}

inline void block_product_of(const LinearTask& task, const Strip& strip, std::int64_t begin,
                             std::int64_t depth) {
  if (task.weight_type == Number::kI8) {
    block_product<I8Panel>(task, strip, begin, depth);
  } else if (task.plan.widen || task.weight_type == Number::kF32) {
    block_product<F32Panel>(task, strip, begin, depth);
  } else if (task.weight_type == Number::kF16) {
    block_product<F16Panel>(task, strip, begin, depth);
  } else if (task.plan.packing == Packing::kFloats) {
    block_product<Bf16Panel>(task, strip, begin, depth);
  } else {
#if defined(PEREGRINE_AVX512_BF16)
    block_product<Bf16DotPanel>(task, strip, begin, depth);
#else
    __builtin_unreachable();
#endif
  }
}

void linear(const LinearTask& task, std::int64_t panel, int count, std::byte* scratch) {
  const LinearPlan& plan = task.plan;
  const Strip strip = {task.weight + panel * task.panel_bytes, task.panel_bytes, count,
                       reinterpret_cast<float*>(scratch), reinterpret_cast<float*>(scratch + kSumsBytes)};
  for (std::int64_t k = 0; k < plan.k; k += plan.k_block) {
    block_product_of(task, strip, k, plan.k_block < plan.k - k ? plan.k_block : plan.k - k);
  }
  for (std::int64_t row = 0; row < plan.rows; ++row) {
    finish_row(task, row, panel * kPanelRows, count, strip.sums + row * kSumsStride);
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
