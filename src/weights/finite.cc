// SPDX-License-Identifier: Apache-2.0
#include "weights/finite.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/error.h"

namespace peregrine::weights {
namespace {

/// Elements looked at before the result is asked for: large enough that the inner loop has no branch, small
/// enough that the search for the exact element costs nothing.
constexpr std::size_t kChunk = 4096;

/// A number is not finite exactly where all bits of its exponent are set.
template <typename Bits>
std::optional<std::uint64_t> search(const StoredTensor& tensor, Bits exponent) {
  const std::size_t count = tensor.data.size() / sizeof(Bits);
  Bits chunk[kChunk];
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    const std::size_t size = std::min(kChunk, count - begin);
    // The file's bytes need not be aligned.
    std::memcpy(chunk, tensor.data.data() + begin * sizeof(Bits), size * sizeof(Bits));
    Bits found = 0;
    for (std::size_t i = 0; i < size; ++i) {
      found |= static_cast<Bits>((chunk[i] & exponent) == exponent ? 1 : 0);
    }
    if (found == 0) continue;
    for (std::size_t i = 0; i < size; ++i) {
      if ((chunk[i] & exponent) == exponent) return begin + i;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> first_non_finite(const StoredTensor& tensor) {
  switch (tensor.dtype) {
    case core::DType::kF32:
      return search<std::uint32_t>(tensor, 0x7F800000u);
    case core::DType::kF16:
      return search<std::uint16_t>(tensor, 0x7C00u);
    case core::DType::kBF16:
      return search<std::uint16_t>(tensor, 0x7F80u);
    default:
      return std::nullopt;
  }
}

void require_finite(const StoredTensor& tensor) {
  const auto element = first_non_finite(tensor);
  if (!element) return;
  core::fail(core::ErrorKind::kDataLoss,
             "{}: tensor {}: element {} is infinite or not a number; every weight must be finite: the file "
             "is damaged",
             tensor.file == nullptr ? "weights" : tensor.file->string(), core::quoted(tensor.name, 200),
             *element);
}

}  // namespace peregrine::weights
