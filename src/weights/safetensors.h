// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/files.h"
#include "weights/tensor.h"

namespace peregrine::weights {

/// One mapped safetensors file. Movable; tensors stay where they are when it is moved. All const members may
/// be called from any thread.
class SafetensorsFile {
 public:
  /// Maps and checks `path` (see parse_safetensors); reads the header's pages only. Throws Error naming the
  /// file.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  /// In the order of their data.
  std::span<const StoredTensor> tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }

 private:
  // On the heap: StoredTensor::file points to its path.
  std::unique_ptr<const core::MappedFile> file_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

}  // namespace peregrine::weights
