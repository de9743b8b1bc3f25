// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/dtype.h"
#include "weights/tensor.h"

namespace peregrine::weights {

/// Where a model's tensors come from: a checkpoint on disk, or random numbers of the right shapes. Used by
/// one thread at a time.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// The element type of the tensor `name`, which must have exactly this shape and be made of float32,
  /// float16 or bfloat16; reads or makes no data. Throws Error that names the tensor, the file, what was
  /// expected and what was found.
  virtual core::DType check(std::string_view name, std::span<const std::int64_t> shape) = 0;

  /// The tensor itself; throws as check() does. Valid until release() or the end of the source.
  virtual const StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) = 0;

  /// Says that the tensor will be required soon. Returns at once.
  virtual void will_need(std::string_view name) = 0;

  /// Says that the tensor is not needed again soon: its memory may be given back. It can be required again.
  virtual void release(const StoredTensor& tensor) = 0;
};

}  // namespace peregrine::weights
