// SPDX-License-Identifier: Apache-2.0
#include "cli/python_random.h"

#include <bit>

namespace peregrine::cli {
namespace {

constexpr std::size_t kSize = 624, kShift = 397;

}  // namespace

PythonRandom::PythonRandom(std::uint32_t seed) {
  const auto mixed = [&](std::size_t i) { return state_[i - 1] ^ (state_[i - 1] >> 30); };
  const auto number = [](std::size_t i) { return static_cast<std::uint32_t>(i); };
  state_[0] = 19650218u;
  for (std::size_t i = 1; i < kSize; ++i) state_[i] = 1812433253u * mixed(i) + number(i);
  std::size_t i = 1;
  const auto advance = [&] {
    if (++i < kSize) return;
    state_[0] = state_[kSize - 1];
    i = 1;
  };
  for (std::size_t k = 0; k < kSize; ++k, advance()) state_[i] = (state_[i] ^ (mixed(i) * 1664525u)) + seed;
  for (std::size_t k = 0; k + 1 < kSize; ++k, advance())
    state_[i] = (state_[i] ^ (mixed(i) * 1566083941u)) - number(i);
  state_[0] = 0x80000000u;
}

std::uint32_t PythonRandom::next() {
  if (used_ == kSize) {
    for (std::size_t i = 0; i < kSize; ++i) {
      const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kSize] & 0x7fffffffu);
      state_[i] = state_[(i + kShift) % kSize] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908b0dfu : 0);
    }
    used_ = 0;
  }
  std::uint32_t y = state_[used_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

std::int32_t PythonRandom::randint(std::int32_t low, std::int32_t high) {
  // Python takes as many bits as the number of choices has, and draws again where they are too large.
  const std::uint32_t choices = static_cast<std::uint32_t>(high) - static_cast<std::uint32_t>(low) + 1;
  const int bits = std::bit_width(choices);
  std::uint32_t drawn = next() >> (32 - bits);
  while (drawn >= choices) drawn = next() >> (32 - bits);
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(low) + drawn);
}

}  // namespace peregrine::cli
