// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Forbids the tokens that would end a sequence before it has `size` tokens, prompt included.
class MinimumSize : public LogitsProcessor {
 public:
  MinimumSize(std::size_t size, std::vector<std::int32_t> end_ids)
      : size_(size), end_ids_(std::move(end_ids)) {}
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::size_t size_;
  std::vector<std::int32_t> end_ids_;
};

/// Forbids a list of tokens where prompt and output have `size` tokens.
class SuppressAtBegin : public LogitsProcessor {
 public:
  SuppressAtBegin(std::size_t size, std::vector<std::int32_t> ids) : size_(size), ids_(std::move(ids)) {}
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::size_t size_;
  std::vector<std::int32_t> ids_;
};

/// Forbids a list of tokens throughout.
class SuppressTokens : public LogitsProcessor {
 public:
  explicit SuppressTokens(std::vector<std::int32_t> ids) : ids_(std::move(ids)) {}
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::vector<std::int32_t> ids_;
};

}  // namespace peregrine::decoding
