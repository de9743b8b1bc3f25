// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: included inside the namespace of one instruction set.
#pragma once

#define PEREGRINE_INLINE __attribute__((always_inline)) inline
#define PEREGRINE_LAMBDA __attribute__((always_inline))

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// A number that is also a type, so that a loop body sees it as a constant.
template <int N>
struct Constant {
  static constexpr int value = N;
  constexpr operator int() const { return N; }
};

template <typename Integer, Integer... I>
struct Sequence {};

#if defined(__clang__)
template <int N>
using Indices = __make_integer_seq<Sequence, int, N>;
#else
template <int N>
using Indices = Sequence<int, __integer_pack(N)...>;
#endif

template <int... I, typename Function>
PEREGRINE_INLINE constexpr void each_index(Sequence<int, I...>, Function&& function) {
  (function(Constant<I>{}), ...);
}

/// Calls function(Constant<0>), ..., function(Constant<N - 1>). Written out before the optimiser splits
/// arrays into registers: GCC 12 leaves an array of accumulators in memory when a loop over it is unrolled
/// later than that.
template <int N, typename Function>
PEREGRINE_INLINE constexpr void each(Function&& function) {
  each_index(Indices<N>{}, static_cast<Function&&>(function));
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
