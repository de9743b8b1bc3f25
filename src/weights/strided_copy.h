// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "weights/tensor.h"

namespace peregrine::weights {

/// Copies elements of 1, 2, 4 or 8 bytes in row-major order: element (i, j, ...) lies at
/// source + (i * strides[0] + j * strides[1] + ...) * element. `target` has exactly product(shape) elements,
/// and all of them lie in `source`: the caller has checked that. At most kMaxTensorRank dimensions.
void copy_strided(std::span<const std::byte> source, std::span<const std::int64_t> shape,
                  std::span<const std::int64_t> strides, std::size_t element, std::span<std::byte> target);

/// The dense form of a tensor whose elements lie otherwise in its file, made when it is asked for and dropped
/// when it has been used, so that a checkpoint of such tensors is never in memory twice. May be used by any
/// thread.
class StridedCopy {
 public:
  /// `source` is the range of the mapped file that the elements lie in, from the first to the last. The
  /// tensor, whose `data` this object sets, must stay where it is.
  StridedCopy(StoredTensor& tensor, std::span<const std::byte> source, std::vector<std::int64_t> strides);

  /// Sets the tensor's `data`, unless it is set.
  void make() const;
  /// Gives the memory back; the tensor's `data` is empty then.
  void drop() const;

  std::span<const std::byte> source() const { return source_; }
  /// Bytes of the dense form.
  std::uint64_t size() const { return size_; }

 private:
  StoredTensor& tensor_;
  const std::span<const std::byte> source_;
  const std::vector<std::int64_t> strides_;
  const std::uint64_t size_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace peregrine::weights
