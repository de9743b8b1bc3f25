// SPDX-License-Identifier: Apache-2.0
#include "api/request_id.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <random>

namespace peregrine::api {

std::string fresh_uuid() {
  // The device is not asked each time: an id must be unique, not secret.
  thread_local std::mt19937_64 random = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  const std::uint64_t high = (random() & ~0xF000ull) | 0x4000ull;
  const std::uint64_t low = (random() & ~(3ull << 62)) | (2ull << 62);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF,
                     low >> 48, low & 0xFFFFFFFFFFFFull);
}

std::string request_id_of(const HttpRequest& request) {
  constexpr std::size_t kMaxSize = 128;
  const auto given = request.header("x-request-id");
  const bool usable = given && !given->empty() && given->size() <= kMaxSize &&
                      std::ranges::all_of(*given, [](char c) { return c > 0x20 && c < 0x7F; });
  return usable ? std::string(*given) : fresh_uuid();
}

}  // namespace peregrine::api
