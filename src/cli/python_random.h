// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace peregrine::cli {

/// The numbers of Python's random.Random(seed), so that a load can be repeated by tools written in it.
/// The generator is MT19937 seeded by an array of one number: Matsumoto and Nishimura, "Mersenne Twister: a
/// 623-dimensionally equidistributed uniform pseudo-random number generator" (1998), and their
/// init_by_array of 2002.
class PythonRandom {
 public:
  explicit PythonRandom(std::uint32_t seed);

  /// random.randint(low, high): both ends included, low <= high.
  std::int32_t randint(std::int32_t low, std::int32_t high);

 private:
  std::uint32_t next();

  std::array<std::uint32_t, 624> state_;
  std::size_t used_ = 624;
};

}  // namespace peregrine::cli
