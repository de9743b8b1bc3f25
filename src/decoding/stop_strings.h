// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace peregrine::decoding {

/// The bytes of each token id, in order.
using TokenBytes = std::vector<std::string>;

/// Finds stop strings that tokens complete. Looks back only as far as the longest of them.
class StopStrings {
 public:
  /// `bytes` (may be null where there are no strings) must outlive this; an id beyond it has no bytes. Empty
  /// strings are left out: they would end everything.
  StopStrings(const std::vector<std::string>& strings, const TokenBytes* bytes);

  bool empty() const { return strings_.empty(); }
  /// Whether a stop string ends within the bytes of `token`, behind an output that ends in `tail` and holds
  /// none.
  bool completes(const std::string& tail, std::int32_t token) const;
  /// Puts the bytes of `token` behind `tail`, and cuts off at its front what can be part of no stop string to
  /// come.
  void append(std::string& tail, std::int32_t token) const;

 private:
  const std::string& bytes_of(std::int32_t token) const;

  std::vector<std::string> strings_;
  const TokenBytes* bytes_;
  std::size_t longest_ = 0;
  std::string none_;
};

}  // namespace peregrine::decoding
