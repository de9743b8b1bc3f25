// SPDX-License-Identifier: Apache-2.0
#include "weights/torch_file.h"

#include <fmt/format.h>

#include <utility>

#include "core/log.h"
#include "weights/torch_archive.h"

namespace peregrine::weights {

TorchFile::TorchFile(const std::filesystem::path& path)
    : file_(std::make_unique<const core::MappedFile>(path)) {
  TorchArchive archive = parse_torch_archive(file_->bytes(), path.string());
  tensors_.reserve(archive.entries.size());  // copies refer to tensors by their place
  for (TorchEntry& entry : archive.entries) {
    const auto bytes = file_->bytes().subspan(entry.begin, entry.end - entry.begin);
    StoredTensor& tensor = tensors_.emplace_back(
        StoredTensor{std::move(entry.name), entry.dtype, std::move(entry.shape), {}, &file_->path()});
    if (entry.strides.empty()) {
      tensor.data = bytes;
    } else {
      copies_.push_back(std::make_unique<const StridedCopy>(tensor, bytes, std::move(entry.strides)));
      tensor.copy = copies_.back().get();
    }
  }
  if (archive.passed_over_count != 0) {
    spdlog::warn("{}: passed over {} values that are no tensors: {}{}", path.string(),
                 archive.passed_over_count, fmt::join(archive.passed_over, ", "),
                 archive.passed_over_count > archive.passed_over.size() ? ", ..." : "");
  }
}

}  // namespace peregrine::weights
