// SPDX-License-Identifier: Apache-2.0
#include "text/aligned_text.h"

#include <algorithm>

#include "core/error.h"
#include "text/unicode.h"

namespace peregrine::text {

AlignedText::AlignedText(std::string_view text, std::size_t source_begin, bool aligned)
    : text_(text), aligned_(aligned) {
  if (!aligned_) return;
  sources_.reserve(text_.size());
  for (std::size_t i = 0; i < text_.size();) {
    const std::size_t bytes = decode_at(text_, i).bytes;
    const auto begin = static_cast<std::uint32_t>(source_begin + i);
    sources_.insert(sources_.end(), bytes, Range{begin, static_cast<std::uint32_t>(begin + bytes)});
    i += bytes;
  }
}

Range AlignedText::source_of(std::size_t begin, std::size_t end) const {
  if (sources_.empty()) return {};
  const std::size_t first = std::min(begin, sources_.size() - 1);
  const std::size_t last = std::min(end > begin ? end - 1 : begin, sources_.size() - 1);
  return {sources_[first].begin, std::max(sources_[first].begin, sources_[last].end)};
}

void AlignedText::reserve(std::size_t bytes) {
  text_.reserve(bytes);
  if (aligned_) sources_.reserve(bytes);
}

void AlignedText::append(const AlignedText& other, std::size_t begin, std::size_t end) {
  text_.append(other.text_, begin, end - begin);
  if (aligned_) {
    sources_.insert(sources_.end(), other.sources_.begin() + static_cast<std::ptrdiff_t>(begin),
                    other.sources_.begin() + static_cast<std::ptrdiff_t>(end));
  }
}

void AlignedText::append(std::string_view text, const AlignedText& other, std::size_t at) {
  text_.append(text);
  if (aligned_) sources_.insert(sources_.end(), text.size(), other.source_of(at, at + 1));
}

void AlignedText::append(char32_t code_point, const AlignedText& other, std::size_t at) {
  const std::size_t before = text_.size();
  append_utf8(text_, code_point);
  if (aligned_) sources_.insert(sources_.end(), text_.size() - before, other.source_of(at, at + 1));
}

void AlignedText::append_for_nothing(char32_t code_point, const AlignedText& other) {
  const std::size_t before = text_.size();
  append_utf8(text_, code_point);
  if (!aligned_) return;
  const std::uint32_t start = other.source_of(0, 0).begin;
  sources_.insert(sources_.end(), text_.size() - before, Range{start, start});
}

void AlignedText::append_byte(char byte, const AlignedText& other, std::size_t at) {
  text_.push_back(byte);
  if (aligned_) sources_.push_back(other.source_of(at, at + 1));
}

void check_text_size(std::size_t bytes) {
  if (bytes <= kMaxMappedBytes) return;
  core::fail(core::ErrorKind::kInvalidArgument,
             "the tokenizer makes {} bytes of the text: at most {} are allowed", bytes, kMaxMappedBytes);
}

}  // namespace peregrine::text
