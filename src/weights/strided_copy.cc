// SPDX-License-Identifier: Apache-2.0
#include "weights/strided_copy.h"

#include <array>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace peregrine::weights {
namespace {

template <std::size_t kElement>
void copy_row(const std::byte* from, std::int64_t count, std::int64_t stride, std::byte* to) {
  for (std::int64_t i = 0; i < count; ++i, from += stride, to += kElement) std::memcpy(to, from, kElement);
}

/// The row copier of an element size; `stride` in bytes.
auto row_copier(std::size_t element) {
  switch (element) {
    case 1:
      return copy_row<1>;
    case 2:
      return copy_row<2>;
    case 4:
      return copy_row<4>;
    case 8:
      return copy_row<8>;
    default:
      core::fail(core::ErrorKind::kInternal, "elements of {} bytes cannot be copied", element);
  }
}

}  // namespace

void copy_strided(std::span<const std::byte> source, std::span<const std::int64_t> shape,
                  std::span<const std::int64_t> strides, std::size_t element, std::span<std::byte> target) {
  if (target.empty()) return;
  const auto copy = row_copier(element);
  const auto width = static_cast<std::int64_t>(element);
  const std::size_t outer = shape.empty() ? 0 : shape.size() - 1;
  const std::int64_t count = shape.empty() ? 1 : shape[outer];
  const std::int64_t stride = shape.empty() ? 0 : strides[outer] * width;
  std::array<std::int64_t, kMaxTensorRank> index{};
  std::int64_t offset = 0;
  for (std::byte* to = target.data();;) {
    copy(source.data() + offset, count, stride, to);
    to += count * width;
    // The next row, as an odometer counts.
    std::size_t dimension = outer;
    for (; dimension > 0; --dimension) {
      const std::size_t d = dimension - 1;
      offset += strides[d] * width;
      if (++index[d] < shape[d]) break;
      offset -= std::exchange(index[d], 0) * strides[d] * width;
    }
    if (dimension == 0) return;
  }
}

StridedCopy::StridedCopy(StoredTensor& tensor, std::span<const std::byte> source,
                         std::vector<std::int64_t> strides)
    : tensor_(tensor),
      source_(source),
      strides_(std::move(strides)),
      size_(byte_size(tensor.shape, tensor.dtype).value()) {}

void StridedCopy::make() const {
  const std::lock_guard lock(mutex_);
  if (bytes_ != nullptr) return;
  bytes_ = std::make_unique_for_overwrite<std::byte[]>(size_);
  const std::span<std::byte> target(bytes_.get(), size_);
  copy_strided(source_, tensor_.shape, strides_, core::size_of(tensor_.dtype), target);
  tensor_.data = target;
}

void StridedCopy::drop() const {
  const std::lock_guard lock(mutex_);
  tensor_.data = {};
  bytes_.reset();
}

}  // namespace peregrine::weights
