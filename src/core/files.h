// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace peregrine::core {

/// A whole file mapped read-only. The mapping stays valid, and at the same address, until destruction or
/// assignment. Movable, not copyable.
class MappedFile {
 public:
  MappedFile() = default;

  /// Maps `path`. Throws Error: kNotFound where it does not exist, kInvalidArgument where it is not a regular
  /// file or cannot be read. An empty file gives an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Reads a whole regular file of at most `limit` bytes. Throws Error naming the path (kNotFound,
/// kInvalidArgument), and both sizes where it is larger.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit);

}  // namespace peregrine::core
