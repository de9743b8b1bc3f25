// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

// What the benchmarks of matrix products have in common, so that their results can be laid side by side: a
// result's name is "TYPES/SHAPE/M<rows>".

namespace peregrine::bench {

/// A weight of `n` outputs by `k` inputs.
struct Shape {
  const char* name;
  std::int64_t n, k;
};

/// Falcon-7B's matrices.
inline constexpr std::array<Shape, 5> kFalconShapes = {{{"qkv", 4672, 4544},
                                                        {"out", 4544, 4544},
                                                        {"up", 18176, 4544},
                                                        {"down", 4544, 18176},
                                                        {"head", 65024, 4544}}};

inline constexpr std::array<std::int64_t, 9> kRows = {1, 2, 4, 8, 16, 32, 64, 128, 512};

/// Weights of one shape read in turn are together larger than this: beyond any last-level cache, as a model's
/// are. With many rows the arithmetic takes so long that it does not matter, and packing would.
inline constexpr std::int64_t kWorkingSet = std::int64_t{700} << 20;

constexpr std::int64_t copies_beyond_caches(const Shape& shape, std::int64_t element_size,
                                            std::int64_t rows) {
  return rows > 64 ? 1 : kWorkingSet / (shape.n * shape.k * element_size) + 1;
}

}  // namespace peregrine::bench
