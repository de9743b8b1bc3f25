// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "weights/checkpoint.h"
#include "weights/tensor_source.h"

namespace peregrine::weights {

/// A tensor that some checkpoints have under another name only.
struct OtherName {
  std::string_view name;
  std::string_view other;
};

/// The tensors of a checkpoint, which must outlive the source. A tensor whose name begins with
/// `optional_prefix` is also found under its name without it, as early checkpoints have it, or else under the
/// first of its `other_names` that is there; where several are there, the full name counts. Names that end in
/// LayerNorm.weight and LayerNorm.bias are also found with LayerNorm.gamma and LayerNorm.beta.
class CheckpointSource : public TensorSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint, std::string optional_prefix = {},
                            std::vector<OtherName> other_names = {});

  core::DType check(std::string_view name, std::span<const std::int64_t> shape) override;
  const StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) override;
  void will_need(std::string_view name) override;
  void release(const StoredTensor& tensor) override;

 private:
  const StoredTensor* find(std::string_view name) const;
  const StoredTensor* find_exactly(std::string_view name) const;
  const StoredTensor& described(std::string_view name, std::span<const std::int64_t> shape) const;

  const Checkpoint& checkpoint_;
  std::string optional_prefix_;
  std::vector<OtherName> other_names_;
};

}  // namespace peregrine::weights
