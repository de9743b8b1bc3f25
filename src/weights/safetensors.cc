// SPDX-License-Identifier: Apache-2.0
#include "weights/safetensors.h"

#include <utility>

#include "weights/safetensors_header.h"

namespace peregrine::weights {

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_unique<const core::MappedFile>(path)) {
  SafetensorsHeader header = parse_safetensors(file_->bytes(), path.string());
  const auto data = file_->bytes().subspan(header.data_start);
  tensors_.reserve(header.entries.size());
  for (auto& entry : header.entries) {
    tensors_.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                        data.subspan(entry.begin, entry.end - entry.begin), &file_->path()});
  }
  metadata_ = std::move(header.metadata);
}

}  // namespace peregrine::weights
