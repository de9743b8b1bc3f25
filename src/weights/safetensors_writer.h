// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace peregrine::weights {

/// A tensor to write. `data` is row-major, little-endian, exactly product(shape) * size_of(dtype) bytes, and
/// must live until write_safetensors returns.
struct TensorToWrite {
  std::string name;
  core::DType dtype = core::DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};

/// Writes a safetensors file. The same tensors give the same bytes, whatever their order: larger elements
/// come first and then names in order, with the header padded to 8 bytes, so that every tensor is aligned to
/// its element size. `path` is replaced as a whole when everything has been written, or left as it was.
/// Throws Error: kInvalidArgument (a name twice, "__metadata__" as a name, data that does not fit its shape,
/// a header above the format's limit), kInternal (the disk).
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace peregrine::weights
