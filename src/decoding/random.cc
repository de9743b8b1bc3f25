// SPDX-License-Identifier: Apache-2.0
#include "decoding/random.h"

namespace peregrine::decoding {
namespace {

__extension__ using Wide = unsigned __int128;

// The multipliers and Weyl increments of the paper (table 2 and section 3.3).
constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

constexpr std::uint32_t low(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
constexpr std::uint32_t high(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {high(product1) ^ counter[1] ^ key[0], low(product1), high(product0) ^ counter[3] ^ key[1],
               low(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

std::uint64_t random_bits(std::uint64_t seed, std::uint32_t sequence_index, std::uint64_t position) {
  const auto block = philox4x32({low(position), high(position), sequence_index, 0}, {low(seed), high(seed)});
  return std::uint64_t{block[1]} << 32 | block[0];
}

std::uint64_t scale_bits(std::uint64_t bits, std::uint64_t limit) {
  return static_cast<std::uint64_t>(Wide{bits} * limit >> 64);
}

}  // namespace peregrine::decoding
