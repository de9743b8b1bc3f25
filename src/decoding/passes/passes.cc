// SPDX-License-Identifier: Apache-2.0
#include "decoding/passes/passes.h"

#include <algorithm>
#include <array>

namespace peregrine::decoding {

namespace passes_plain {
extern const Passes kPasses;
}
namespace passes_avx2 {
extern const Passes kPasses;
}
namespace passes_avx512 {
extern const Passes kPasses;
}

namespace {

std::array<const Passes*, 4> find_available() {
  __builtin_cpu_init();
  std::array<const Passes*, 4> found = {&passes_plain::kPasses};
  std::size_t count = 1;
  if (__builtin_cpu_supports("avx2")) found[count++] = &passes_avx2::kPasses;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    found[count++] = &passes_avx512::kPasses;
  }
  return found;
}

}  // namespace

const Passes* const* available_passes() {
  static const std::array<const Passes*, 4> found = find_available();
  return found.data();
}

const Passes& passes() {
  static const Passes* const best = [] {
    const Passes* const* all = available_passes();
    while (all[1] != nullptr) ++all;
    return *all;
  }();
  return *best;
}

}  // namespace peregrine::decoding
