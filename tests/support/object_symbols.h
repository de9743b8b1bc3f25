// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace peregrine::testing {

/// What an object file exports, each as "TYPE NAME" of `nm` (a program's path), weak symbols included. A weak
/// symbol may be merged by the linker with the copy of another object, and then AVX-512 code runs on a
/// processor that has none.
std::vector<std::string> exported_symbols(const std::string& nm, const std::string& object);

/// "avx2" of ".../avx2.cc.o".
std::string source_name(const std::string& object);

}  // namespace peregrine::testing
