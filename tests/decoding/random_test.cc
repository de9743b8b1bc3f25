// SPDX-License-Identifier: Apache-2.0
#include "decoding/random.h"

#include <gtest/gtest.h>

#include <set>

namespace peregrine::decoding {
namespace {

using Block = std::array<std::uint32_t, 4>;

TEST(Random, PhiloxKnownAnswers) {
  // The known-answer vectors for philox4x32-10 of Random123 1.14 (tests/kat_vectors).
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, BitsAreThePhiloxBlockOfSeedSequenceAndPosition) {
  const Block block = philox4x32({0x9, 0x1, 7, 0}, {0x89abcdef, 0x01234567});
  EXPECT_EQ(random_bits(0x0123456789abcdef, 7, 0x100000009), std::uint64_t{block[1]} << 32 | block[0]);
}

TEST(Random, EachCoordinateMatters) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (std::uint32_t sequence : {0u, 1u}) {
      for (std::uint64_t position : {0ull, 1ull, 1ull << 32})
        seen.insert(random_bits(seed, sequence, position));
    }
  }
  EXPECT_EQ(seen.size(), 18u);
}

TEST(Random, ScaleCoversTheRangeEvenly) {
  EXPECT_EQ(scale_bits(0, 10), 0u);
  EXPECT_EQ(scale_bits(~0ull, 10), 9u);
  EXPECT_EQ(scale_bits(~0ull, 1ull << 58), (1ull << 58) - 1);
  EXPECT_EQ(scale_bits(1ull << 63, 10), 5u);
  std::array<int, 10> counts{};
  for (std::uint64_t i = 0; i < 100000; ++i) ++counts[scale_bits(random_bits(42, 0, i), 10)];
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 10000.0) * (count - 10000.0) / 10000.0;
  EXPECT_LT(chi_square, 27.9);  // 9 degrees of freedom, p = 0.001
}

}  // namespace
}  // namespace peregrine::decoding
