// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace peregrine::weights {

/// Throws Error(kDataLoss) where `file` is the few lines of text that stand for a large file in a Git
/// repository cloned without Git LFS. `where` names the file in the message.
void refuse_lfs_pointer(std::span<const std::byte> file, std::string_view where);

}  // namespace peregrine::weights
