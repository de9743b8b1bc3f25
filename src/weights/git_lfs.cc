// SPDX-License-Identifier: Apache-2.0
#include "weights/git_lfs.h"

#include "core/error.h"

namespace peregrine::weights {

void refuse_lfs_pointer(std::span<const std::byte> file, std::string_view where) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.starts_with("version https://git-lfs")) {
    core::fail(core::ErrorKind::kDataLoss,
               "{}: is a Git LFS pointer, not the weights: fetch them with `git lfs pull`", where);
  }
}

}  // namespace peregrine::weights
