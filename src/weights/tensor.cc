// SPDX-License-Identifier: Apache-2.0
#include "weights/tensor.h"

#include <fmt/format.h>

#include <limits>

#include "core/checked.h"

namespace peregrine::weights {

std::optional<std::uint64_t> byte_size(std::span<const std::int64_t> shape, core::DType dtype) {
  constexpr auto kLimit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t product = core::size_of(dtype);
  bool empty = false;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension == 0) {
      empty = true;
      continue;
    }
    const auto next = core::checked_mul(product, static_cast<std::uint64_t>(dimension));
    if (!next || *next > kLimit) return std::nullopt;
    product = *next;
  }
  return empty ? 0 : product;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace peregrine::weights
