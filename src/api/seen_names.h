// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

namespace peregrine::api {

/// Which names were seen already, so that each is logged once and not with every request. Clients choose the
/// names, so there is a limit to how many are kept; beyond it none is new. Thread-safe.
class SeenNames {
 public:
  /// Whether `name` was not seen before.
  bool is_new(std::string_view name) {
    if (name.size() > kMaxSize) name = name.substr(0, kMaxSize);
    const std::lock_guard lock(mutex_);
    if (names_.contains(name) || names_.size() == kMaxNames) return false;
    names_.emplace(name);
    return true;
  }

 private:
  static constexpr std::size_t kMaxNames = 1000;
  static constexpr std::size_t kMaxSize = 200;
  std::mutex mutex_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace peregrine::api
