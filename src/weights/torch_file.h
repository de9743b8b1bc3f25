// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "core/files.h"
#include "weights/strided_copy.h"
#include "weights/tensor.h"

namespace peregrine::weights {

/// One mapped file of torch.save (pytorch_model.bin). Tensors are used where they lie in the file, unless
/// their elements are not in row-major order: those have a `copy`. Movable; tensors stay where they are when
/// it is moved. All const members may be called from any thread.
class TorchFile {
 public:
  /// Maps and checks `path` (see parse_torch_archive); reads no tensor. Values in the file that are no
  /// tensors are passed over, with a warning in the log. Throws Error naming the file.
  explicit TorchFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  /// Sorted by name.
  std::span<const StoredTensor> tensors() const { return tensors_; }

 private:
  // On the heap: StoredTensor::file points to its path.
  std::unique_ptr<const core::MappedFile> file_;
  std::vector<StoredTensor> tensors_;
  std::vector<std::unique_ptr<const StridedCopy>> copies_;
};

}  // namespace peregrine::weights
