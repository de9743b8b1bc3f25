// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace peregrine::weights {

/// One tensor of a file that torch.save wrote. Its elements lie in bytes [begin, end) of the file.
struct TorchEntry {
  std::string name;
  core::DType dtype = core::DType::kF32;
  std::vector<std::int64_t> shape;
  /// In elements; empty where the elements lie in row-major order without gaps, so that [begin, end) is the
  /// tensor. Otherwise an element (i, j, ...) lies (i * strides[0] + j * strides[1] + ...) elements behind
  /// `begin`, and [begin, end) ends with the last of them.
  std::vector<std::int64_t> strides;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct TorchArchive {
  std::vector<TorchEntry> entries;       ///< Sorted by name, each name once.
  std::vector<std::string> passed_over;  ///< Keys of values that are no tensors; the first few.
  std::size_t passed_over_count = 0;
};

/// Reads a whole file that lies in memory, in the zip format that torch.save writes since 1.6: stored entries
/// <archive>/data.pkl (which describes the tensors) and <archive>/data/<key> (one storage each, which tensors
/// may share). Nothing in the file is run: see PickleMachine. Every tensor lies within its storage, and every
/// storage has the size that the pickle says; a tensor that is not in row-major order has at most as many
/// elements as its storage, so that who copies it needs no more memory than the file has.
///
/// `where` names the file in messages. Throws Error: kUnsupported for a file in torch's old format, a
/// TorchScript archive, one that refers to other classes than those of tensors, a compressed entry;
/// kInvalidArgument for what is no such file; kDataLoss where it is damaged or truncated.
TorchArchive parse_torch_archive(std::span<const std::byte> file, std::string_view where);

}  // namespace peregrine::weights
