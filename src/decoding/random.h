// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace peregrine::decoding {

/// Philox4x32-10: a block of four random words that is a pure function of counter and key. J. Salmon et al.,
/// "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// 64 random bits for one draw: a pure function of the seed, the index of the sequence in its group, and the
/// position of the drawn token (the number of tokens before it, the prompt included).
std::uint64_t random_bits(std::uint64_t seed, std::uint32_t sequence_index, std::uint64_t position);

/// Scales random bits to an integer in [0, limit), limit > 0: the high word of the product, which errs from
/// uniform by less than 2^-64 of the whole.
std::uint64_t scale_bits(std::uint64_t bits, std::uint64_t limit);

}  // namespace peregrine::decoding
