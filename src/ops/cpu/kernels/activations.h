// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: activations of matrix products, packed for broadcasting, and quantized where the
// weights are.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// First row of group g.
PEREGRINE_INLINE std::int64_t group_row(const LinearPlan& plan, std::int64_t g) {
  const std::int64_t small = plan.rows / plan.groups, bigger = plan.rows % plan.groups;
  return g * small + (g < bigger ? g : bigger);
}

PEREGRINE_INLINE std::uint32_t pair_of(std::uint16_t even, std::uint16_t odd) {
  return even | static_cast<std::uint32_t>(odd) << 16;
}

/// Value (row, k) of the input; 0 behind its last column.
PEREGRINE_INLINE float input_f32(const PackActivationsTask& task, const std::byte* row, std::int64_t k) {
  if (k >= task.in_cols) return 0.0f;
  if (task.type == Number::kF32) {
    float value;
    __builtin_memcpy(&value, row + k * 4, 4);
    return value;
  }
  std::uint16_t bits;
  __builtin_memcpy(&bits, row + k * 2, 2);
  return widen_bf16(bits);
}

/// Copies k in [begin, end) of one row, as float32, to every stride-th place of `out`.
inline void scatter_f32(const PackActivationsTask& task, const std::byte* row, std::int64_t begin,
                        std::int64_t end, float* out, std::int64_t stride) {
  std::int64_t k = begin;
  for (; k + 16 <= end && k + 16 <= task.in_cols; k += 16) {
    alignas(64) float lanes[16];
    store(lanes, load_as(task.type, row + k * bytes_of(task.type)));
    for (int i = 0; i < 16; ++i) out[i * stride] = lanes[i];
    out += 16 * stride;
  }
  for (; k < end; ++k, out += stride) *out = input_f32(task, row, k);
}

inline void scatter_pairs(const PackActivationsTask& task, const std::byte* row, std::int64_t begin,
                          std::int64_t end, std::uint32_t* out, std::int64_t stride) {
  std::int64_t k = begin;
  for (; k + 2 <= end && k + 2 <= task.in_cols; k += 2, out += stride) __builtin_memcpy(out, row + k * 2, 4);
  for (; k < end; k += 2, out += stride) {
    std::uint16_t even = 0;
    if (k < task.in_cols) __builtin_memcpy(&even, row + k * 2, 2);
    *out = pair_of(even, 0);
  }
}

/// What |x| of a row is at most. Compared as bits, in which what is no number is the largest of all, so that
/// it is not lost.
inline float largest_magnitude(const PackActivationsTask& task, const std::byte* row) {
  IntVector top = splat_ints(0);
  std::int64_t k = 0;
  for (; k + 16 <= task.in_cols; k += 16) {
    top = max(bits_of(abs(load_as(task.type, row + k * bytes_of(task.type)))), top);
  }
  if (k < task.in_cols) {
    top = max(bits_of(abs(load_as(task.type, row + k * bytes_of(task.type), task.in_cols - k))), top);
  }
  alignas(64) std::int32_t lanes[16];
  store(lanes, top);
  std::int32_t highest = 0;
  for (const std::int32_t lane : lanes) highest = lane > highest ? lane : highest;
  float value;
  __builtin_memcpy(&value, &highest, 4);
  return value;
}

/// q of k in [begin, end) of a row, at most kQuantizedChunk, to `bytes`; 0 behind its last column. Adds to
/// `total`.
inline constexpr std::int64_t kQuantizedChunk = 512;
inline void quantize_chunk(const PackActivationsTask& task, const std::byte* row, std::int64_t begin,
                           std::int64_t end, float inverse, std::int8_t* bytes, IntVector& total) {
  const Vector factor = splat(inverse);
  for (std::int64_t k = begin; k < end; k += 16, bytes += 16) {
    const std::int64_t lanes = task.in_cols - k;
    const std::byte* at = row + k * bytes_of(task.type);
    const Vector x = lanes >= 16 ? load_as(task.type, at)
                     : lanes > 0 ? load_as(task.type, at, lanes)
                                 : zero();
    const IntVector q = round_to_ints(mul(x, factor));
    total = add(total, q);
    store_bytes(bytes, q);
  }
}

/// Deals quads of bytes to every `stride`-th place.
inline void scatter_quads(const std::int8_t* bytes, std::int64_t quads, std::uint32_t* out,
                          std::int64_t stride) {
  for (std::int64_t i = 0; i < quads; ++i, bytes += 4) {
#if defined(PEREGRINE_VNNI)
    __builtin_memcpy(out, bytes, 4);
    out += stride;
#else
    const auto word = [bytes](int k) { return static_cast<std::uint16_t>(std::int16_t{bytes[k]}); };
    out[0] = pair_of(word(0), word(2));
    out[stride] = pair_of(word(1), word(3));
    out += 2 * stride;
#endif
  }
}

/// Values of 32 bits that one k of a row takes, times four.
inline constexpr std::int64_t kQuadValues = I8Panel::kValues;

/// Quantizes row `first` + t of a group, every block of K to its place.
inline void pack_int8_row(const PackActivationsTask& task, std::int64_t first, std::int64_t t,
                          std::int64_t tokens) {
  const LinearPlan& plan = task.plan;
  const std::byte* row = task.in + (first + t) * task.in_stride * bytes_of(task.type);
  const float highest = largest_magnitude(task, row);
  const float inverse = highest >= 0x1p-120f ? 127.0f / highest : 0.0f;
  IntVector total = splat_ints(0);
  for (std::int64_t k = 0; k < plan.k; k += plan.k_block) {
    const std::int64_t k_end = k + plan.k_block < plan.k ? k + plan.k_block : plan.k;
    auto* out = reinterpret_cast<std::uint32_t*>(task.packed) +
                (k * plan.rows + first * (k_end - k)) / 4 * kQuadValues + t;
    for (std::int64_t begin = k; begin < k_end; begin += kQuantizedChunk) {
      alignas(64) std::int8_t bytes[kQuantizedChunk + 16];
      const std::int64_t end = begin + kQuantizedChunk < k_end ? begin + kQuantizedChunk : k_end;
      quantize_chunk(task, row, begin, end, inverse, bytes, total);
      scatter_quads(bytes, (end - begin) / 4, out, tokens);
      out += (end - begin) / 4 * kQuadValues * tokens;
    }
  }
  alignas(64) std::uint32_t lanes[16];
  store(lanes, total);
  std::uint32_t sum = 0;
  for (const std::uint32_t lane : lanes) sum += lane;
  task.quantized[first + t] = {highest / 127.0f, static_cast<std::int32_t>(128 * sum)};
}

inline void pack_float_group(const PackActivationsTask& task, std::int64_t first, std::int64_t tokens) {
  const LinearPlan& plan = task.plan;
  const bool pairs = plan.packing == Packing::kBf16Pairs;
  for (std::int64_t k = 0; k < plan.k; k += plan.k_block) {
    const std::int64_t k_end = k + plan.k_block < plan.k ? k + plan.k_block : plan.k;
    std::byte* out = task.packed + (k * plan.rows + first * (k_end - k)) * (pairs ? 2 : 4);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::byte* row = task.in + (first + t) * task.in_stride * bytes_of(task.type);
      if (pairs) {
        scatter_pairs(task, row, k, k_end, reinterpret_cast<std::uint32_t*>(out) + t, tokens);
      } else {
        scatter_f32(task, row, k, k_end, reinterpret_cast<float*>(out) + t, tokens);
      }
    }
  }
}

void pack_activations(const PackActivationsTask& task, std::int64_t group_begin, std::int64_t group_end) {
  const bool floats = task.plan.packing == Packing::kFloats || task.plan.packing == Packing::kBf16Pairs;
  for (std::int64_t g = group_begin; g < group_end; ++g) {
    const std::int64_t first = group_row(task.plan, g), tokens = group_row(task.plan, g + 1) - first;
    if (floats) {
      pack_float_group(task, first, tokens);
    } else {
      for (std::int64_t t = 0; t < tokens; ++t) pack_int8_row(task, first, t, tokens);
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
