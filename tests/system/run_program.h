// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace peregrine::testing {

/// How a program ended, and what it wrote.
struct ProgramResult {
  int exit_code = -1;  ///< 128 + signal where a signal ended it.
  std::string out;
  std::string err;
  long peak_kilobytes = 0;  ///< Largest resident memory.
};

/// Runs the peregrine binary with `arguments` and `input` on its standard input, until it ends.
ProgramResult run_peregrine(const std::vector<std::string>& arguments, const std::string& input = "");

}  // namespace peregrine::testing
