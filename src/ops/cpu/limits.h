// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace peregrine::ops::cpu {

/// What this machine can do at most, as measured, for quoting speeds as fractions.
struct Limits {
  std::string isa;
  int threads = 0;
  double read_bandwidth =
      0;                ///< Bytes per second read from memory by all threads together, four streams each.
  double f32_rate = 0;  ///< Floating-point operations per second in float32, registers only, all threads.
  /// The same for bfloat16 products with float32 sums, in the instructions that the instruction set's kernels
  /// use (a dot product, or float32 after widening).
  double bf16_rate = 0;
  double int8_rate = 0;  ///< Integer operations per second of int8 products with exact sums, likewise.
};

/// Measures with `threads` threads (0 = one for each core) and the kernels of `isa` (empty = best): about a
/// second and 1 GiB of memory (the best of a few passes: neighbours on the machine only ever take away).
/// Throws Error as ops::create_device.
Limits measure_limits(int threads, const std::string& isa = "");

}  // namespace peregrine::ops::cpu
