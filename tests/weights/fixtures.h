// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace peregrine::weights {

/// What an action threw: kind and message. A test that asks for an error and gets none sees "no error".
struct Caught {
  std::optional<core::ErrorKind> kind;
  std::string message = "no error";
};

template <typename Function>
Caught caught(Function&& function) {
  try {
    function();
  } catch (const core::Error& error) {
    return {error.kind(), error.what()};
  }
  return {};
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// A safetensors file of this header (as it is, with no padding) and `data`.
inline std::string file_of(std::string_view header, std::string_view data) {
  std::string out(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(out.data(), &size, sizeof size);
  return out.append(header).append(data);
}

/// `size` bytes that differ from place to place.
inline std::string pattern(std::size_t size, unsigned seed = 1) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>((i * 131 + seed * 17) >> 1);
  return out;
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::string bytes_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace peregrine::weights
