// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: what happens to queries, keys and values between the product that makes them and
// attention. Each head is widened to float32, clipped, normalised and rotated in scratch memory, and rounded
// once, on its way out.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

constexpr std::int64_t whole_vectors(std::int64_t width) {
  return (width + kPanelRows - 1) / kPanelRows * kPanelRows;
}

/// The head, the angles of pairs of neighbours, and the head as it is stored.
std::size_t rotate_scratch(std::int64_t head_dim) {
  return static_cast<std::size_t>(4 * whole_vectors(head_dim)) * sizeof(float);
}

PEREGRINE_INLINE Vector load_some(const float* p, std::int64_t n) {
  return n >= 16 ? load(p) : load_lanes(p, n);
}
PEREGRINE_INLINE void store_some(float* p, Vector a, std::int64_t n) {
  if (n >= 16) {
    store(p, a);
  } else {
    store_lanes(p, a, n);
  }
}

/// Calls function(i, lanes) for the vectors of a row of `width`; `lanes` of the last may be below 16.
template <typename Function>
PEREGRINE_INLINE void each_vector(std::int64_t width, Function function) {
  std::int64_t i = 0;
  for (; i + 16 <= width; i += 16) function(i, 16);
  if (i < width) function(i, width - i);
}

/// Cosines and sines of one row. For pairs of neighbours both are there twice, for each of the two, the sine
/// with the sign that it has in the first's sum: x cos - y sin = x cos + y (-sin), to the bit.
struct Angles {
  const float* cosines;
  const float* sines;
};
inline Angles angles_of(const RotateTask& task, std::int64_t row, float* scratch) {
  const Angles given{task.cosines + row * task.cosine_stride, task.sines + row * task.sine_stride};
  if (task.half == 0 || !task.pairs) return given;
  float* cosines = scratch;
  float* sines = scratch + whole_vectors(task.head_dim);
  for (std::int64_t i = 0; i < task.half; ++i) {
    cosines[2 * i] = cosines[2 * i + 1] = given.cosines[i];
    sines[2 * i] = -given.sines[i];
    sines[2 * i + 1] = given.sines[i];
  }
  return {cosines, sines};
}

inline void rotate_head(const RotateTask& task, const Angles& angles, float* x) {
  if (task.pairs) {
    each_vector(2 * task.half, [&](std::int64_t i, std::int64_t lanes) PEREGRINE_LAMBDA {
      const Vector at = load(x + i);
      const Vector straight = mul(at, load_some(angles.cosines + i, lanes));
      const Vector across = mul(swap_pairs(at), load_some(angles.sines + i, lanes));
      store_some(x + i, add(straight, across), lanes);
    });
    return;
  }
  each_vector(task.half, [&](std::int64_t i, std::int64_t lanes) PEREGRINE_LAMBDA {
    const Vector a = load_some(x + i, lanes), b = load_some(x + task.half + i, lanes);
    const Vector cosine = load_some(angles.cosines + i, lanes), sine = load_some(angles.sines + i, lanes);
    store_some(x + i, sub(mul(a, cosine), mul(b, sine)), lanes);
    store_some(x + task.half + i, add(mul(b, cosine), mul(a, sine)), lanes);
  });
}

inline void normalize_head(const RotateTask& task, const float* weight, float* x) {
  const auto count = static_cast<float>(task.head_dim);
  if (task.centered) {
    const Vector mean = splat(
        sum_row(x, task.head_dim, 0.0f, [](Vector sum, Vector v) PEREGRINE_LAMBDA { return add(sum, v); }) /
        count);
    each_vector(task.head_dim, [&](std::int64_t i, std::int64_t lanes)
                                   PEREGRINE_LAMBDA { store_some(x + i, sub(load(x + i), mean), lanes); });
  }
  const float squares =
      sum_row(x, task.head_dim, 0.0f, [](Vector sum, Vector v) PEREGRINE_LAMBDA { return fma(v, v, sum); });
  const Vector factor = div(splat(1.0f), sqrt(splat(squares / count + task.epsilon)));
  each_vector(task.head_dim, [&](std::int64_t i, std::int64_t lanes) PEREGRINE_LAMBDA {
    store_some(x + i, mul(mul(load(x + i), factor), load_some(weight + i, lanes)), lanes);
  });
}

/// Rounds a head to 8 bits; returns its scale. See KvCacheSpec.
inline float quantize_head(const float* x, std::int64_t wide, std::int8_t* out) {
  Vector largest = zero(), strange = zero();
  for (std::int64_t i = 0; i < wide; i += 16) {
    const Vector at = load(x + i);
    largest = max(abs(at), largest);
    strange = add(strange, sub(at, at));  // no number if one of them is none, or infinite
  }
  const float scale = max_lanes(largest) / 127.0f + sum_lanes(strange);
  if (!(scale >= 0x1p-126f)) {
    __builtin_memset(out, 0, static_cast<std::size_t>(wide));
    return scale < 0x1p-126f ? 0.0f : scale;
  }
  const Vector divisor = splat(scale);
  for (std::int64_t i = 0; i < wide; i += 16) {
    store_bytes(out + i, round_to_ints(div(load(x + i), divisor)));
  }
  return scale;
}

/// Stores a key in its block's panel, one column of it; `packed` is scratch memory of as many floats.
inline void store_key(const RotateTask& task, const float* x, std::byte* piece, std::int64_t slot,
                      float* packed) {
  const std::int64_t wide = whole_vectors(task.head_dim);
  if (task.cache_type == CacheType::kF32) {
    auto* to = reinterpret_cast<float*>(piece) + slot;
    for (std::int64_t d = 0; d < task.head_dim; ++d) to[d * kCacheBlock] = x[d];
  } else if (task.cache_type == CacheType::kBF16) {
    auto* to = reinterpret_cast<std::uint32_t*>(piece) + slot;
    for (std::int64_t i = 0; i < wide; i += 16)
      store_as(Number::kBF16, reinterpret_cast<std::byte*>(packed) + i * 2, load(x + i));
    for (std::int64_t d = 0; d < task.head_dim; d += 2) {
      __builtin_memcpy(to + d / 2 * kCacheBlock, reinterpret_cast<const std::byte*>(packed) + d * 2, 4);
    }
  } else {
    auto* bytes = reinterpret_cast<std::int8_t*>(packed);
    reinterpret_cast<float*>(piece + task.scale_bytes)[slot] = quantize_head(x, wide, bytes);
    auto* to = reinterpret_cast<std::int8_t*>(piece) + slot;
    for (std::int64_t d = 0; d < task.head_dim; ++d) to[d * kCacheBlock] = bytes[d];
  }
}

/// Stores a value: in each panel of 16 dimensions the row of its position.
inline void store_value(const RotateTask& task, const float* x, std::byte* piece, std::int64_t slot,
                        float* packed) {
  const std::int64_t wide = whole_vectors(task.head_dim);
  std::byte* panel = piece + task.key_bytes;
  if (task.cache_type == CacheType::kF32) {
    for (std::int64_t i = 0; i < wide; i += 16) store(panel + (i * kCacheBlock + slot * 16) * 4, load(x + i));
  } else if (task.cache_type == CacheType::kBF16) {
    // Two positions share a word, and may be stored by two threads.
    auto* to = reinterpret_cast<std::uint16_t*>(panel) + slot / 2 * 2 * kPanelRows + slot % 2;
    auto* halves = reinterpret_cast<std::uint16_t*>(packed);
    for (std::int64_t i = 0; i < wide; i += 16, to += kPanelRows * kCacheBlock) {
      store_bf16(halves, load(x + i));
      for (int lane = 0; lane < kPanelRows; ++lane) to[2 * lane] = halves[lane];
    }
  } else {
    auto* bytes = reinterpret_cast<std::int8_t*>(packed);
    reinterpret_cast<float*>(piece + task.scale_bytes)[kCacheBlock + slot] = quantize_head(x, wide, bytes);
    for (std::int64_t i = 0; i < wide; i += 16) {
      __builtin_memcpy(panel + i * kCacheBlock + slot * kPanelRows, bytes + i, kPanelRows);
    }
  }
}

/// Heads [item.begin, item.end) of a row: queries are changed in place, keys and values stored.
void rotate(const RotateTask& task, const RotateItem& item, std::byte* scratch) {
  const std::int64_t width = task.head_dim, wide = whole_vectors(width), size = bytes_of(task.type);
  auto* x = reinterpret_cast<float*>(scratch);
  const Angles angles = angles_of(task, item.row, x + wide);
  float* packed = x + 3 * wide;
  const bool rotates = task.half > 0;
  const bool changes_queries = rotates || task.clip > 0 || task.query_norm != nullptr;
  const std::int64_t key_heads = task.heads + task.kv_heads;
  for (std::int64_t head = item.begin; head < item.end; ++head) {
    const bool is_query = head < task.heads, is_value = head >= key_heads;
    if (is_query && !changes_queries) continue;
    std::byte* at = task.qkv + (item.row * task.stride + head * width) * size;
    each_vector(width, [&](std::int64_t i, std::int64_t lanes) PEREGRINE_LAMBDA {
      Vector v = load_as(task.type, at + i * size, lanes);
      // What is no number stays so: min and max give their second operand then.
      if (task.clip > 0) v = max(splat(-task.clip), min(splat(task.clip), v));
      store(x + i, v);
    });
    if (!is_value && task.query_norm != nullptr) {
      const float* weight =
          is_query ? task.query_norm + head * width : task.key_norm + (head - task.heads) * width;
      normalize_head(task, weight, x);
    }
    if (!is_value && rotates) rotate_head(task, angles, x);
    if (is_query) {
      each_vector(width, [&](std::int64_t i, std::int64_t lanes)
                             PEREGRINE_LAMBDA { store_as(task.type, at + i * size, load(x + i), lanes); });
      continue;
    }
    std::byte* piece = task.cache + item.block * task.block_bytes +
                       (head - (is_value ? key_heads : task.heads)) * task.head_bytes;
    if (is_value) {
      store_value(task, x, piece, item.slot, packed);
    } else {
      store_key(task, x, piece, item.slot, packed);
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
