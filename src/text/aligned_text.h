// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::text {

/// A half-open range of bytes.
struct Range {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  bool empty() const { return begin == end; }
  friend bool operator==(const Range&, const Range&) = default;
};

/// The largest text that is encoded, in bytes.
constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;
/// The largest that normalizers and pre-tokenizers may make of it (byte-level mapping at most doubles a
/// text).
constexpr std::size_t kMaxMappedBytes = 2 * kMaxTextBytes;

/// Text on its way through normalizers: valid UTF-8, and, where asked for, for each of its bytes the range of
/// bytes of the original text that it stands for. Without alignment the second half costs nothing.
class AlignedText {
 public:
  /// An empty text.
  explicit AlignedText(bool aligned) : aligned_(aligned) {}
  /// `text`, whose first byte is byte `source_begin` of the original.
  AlignedText(std::string_view text, std::size_t source_begin, bool aligned);

  std::string_view text() const { return text_; }
  bool aligned() const { return aligned_; }
  /// One per byte; empty where not aligned.
  std::span<const Range> sources() const { return sources_; }

  /// The range of the original that bytes [begin, end) stand for. Requires alignment.
  Range source_of(std::size_t begin, std::size_t end) const;

  void reserve(std::size_t bytes);
  /// Appends bytes [begin, end) of `other` with their sources.
  void append(const AlignedText& other, std::size_t begin, std::size_t end);
  /// Appends `text` that stands for what byte `at` of `other` stands for (`at` is clamped to the last byte).
  void append(std::string_view text, const AlignedText& other, std::size_t at);
  void append(char32_t code_point, const AlignedText& other, std::size_t at);
  /// Appends a character that stands for nothing, at the start of what `other` stands for.
  void append_for_nothing(char32_t code_point, const AlignedText& other);
  void append_byte(char byte, const AlignedText& other, std::size_t at);

 private:
  std::string text_;
  std::vector<Range> sources_;
  bool aligned_;
};

/// Throws Error(kInvalidArgument) where a text of `bytes` bytes is beyond kMaxMappedBytes.
void check_text_size(std::size_t bytes);

}  // namespace peregrine::text
