// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace peregrine::weights {

class StridedCopy;

inline constexpr std::size_t kMaxTensorRank = 32;

/// One tensor of a checkpoint. It owns nothing of the file: `data` and `file` are valid as long as the
/// Checkpoint (or file) it came from.
struct StoredTensor {
  std::string name;
  core::DType dtype = core::DType::kF32;
  std::vector<std::int64_t> shape;  ///< Outermost dimension first; empty for a scalar; dimensions may be 0.
  /// Row-major little-endian elements in the mapped file, exactly product(shape) * size_of(dtype) bytes. Not
  /// necessarily aligned to the element size: copy through memcpy.
  std::span<const std::byte> data;
  const std::filesystem::path* file = nullptr;
  /// Set where the file holds the elements in another order (a transposed tensor in a .bin file): `data` is
  /// then a copy, empty until it is made (see Checkpoint::find) and after it is released.
  const StridedCopy* copy = nullptr;
};

/// Bytes of a dense tensor, or nothing where the product of the non-zero dimensions and the element size
/// exceeds 2^63 - 1 or a dimension is negative. (Zero dimensions are left out of that check, so that [2^62,
/// 2^62, 0] is refused too: who multiplies only some of the dimensions cannot overflow either.)
std::optional<std::uint64_t> byte_size(std::span<const std::int64_t> shape, core::DType dtype);

/// "[4, 50]", for messages.
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace peregrine::weights
