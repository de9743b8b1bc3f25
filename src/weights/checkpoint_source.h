// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "weights/checkpoint.h"
#include "weights/tensor_source.h"

namespace peregrine::weights {

/// The tensors of a checkpoint, which must outlive the source. A tensor whose name begins with
/// `optional_prefix` is also found under its name without it, as early checkpoints have it; where both are
/// there, the full name counts.
class CheckpointSource : public TensorSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint, std::string optional_prefix = {});

  core::DType check(std::string_view name, std::span<const std::int64_t> shape) override;
  const StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) override;
  void will_need(std::string_view name) override;
  void release(const StoredTensor& tensor) override;

 private:
  const StoredTensor* find(std::string_view name) const;
  const StoredTensor& described(std::string_view name, std::span<const std::int64_t> shape) const;

  const Checkpoint& checkpoint_;
  std::string optional_prefix_;
};

}  // namespace peregrine::weights
