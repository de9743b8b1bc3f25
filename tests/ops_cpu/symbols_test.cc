// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "support/object_symbols.h"

namespace peregrine::ops::cpu::test {
namespace {

// A weak symbol, or a global one outside the instruction set's own namespace, may be merged by the linker
// with the copy of another object, and then AVX-512 code runs on a processor that has none.
TEST(KernelObjects, ExportNothingButTheirTable) {
  std::ifstream list(PEREGRINE_OPS_OBJECTS);
  std::set<std::string> seen;
  for (std::string object; std::getline(list, object);) {
    if (object.find("/cpu/kernels/") == std::string::npos) continue;
    const std::string isa = testing::source_name(object);
    seen.insert(isa);
    const std::vector<std::string> exported = testing::exported_symbols(PEREGRINE_NM, object);
    const std::string name = "isa_" + isa;
    const std::string table = "N9peregrine3ops3cpu" + std::to_string(name.size()) + name + "6kTableE";
    ASSERT_EQ(exported.size(), 1u) << object << " exports more than its table: " << exported.back();
    EXPECT_EQ(exported[0], "D _Z" + table);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16"}));
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
