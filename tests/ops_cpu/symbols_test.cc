// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace peregrine::ops::cpu::test {
namespace {

std::vector<std::string> lines_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::vector<std::string> lines;
  std::array<char, 4096> buffer;
  while (pipe && std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) {
    lines.emplace_back(buffer.data());
    lines.back().pop_back();
  }
  return lines;
}

// A weak symbol, or a global one outside the instruction set's own namespace, may be merged by the linker
// with the copy of another object, and then AVX-512 code runs on a processor that has none.
TEST(KernelObjects, ExportNothingButTheirTable) {
  std::ifstream list(PEREGRINE_OPS_OBJECTS);
  std::set<std::string> seen;
  for (std::string object; std::getline(list, object);) {
    if (object.find("/cpu/kernels/") == std::string::npos) continue;
    const std::string isa = object.substr(object.rfind('/') + 1, object.find(".cc") - object.rfind('/') - 1);
    seen.insert(isa);
    std::vector<std::string> exported;
    for (const std::string& line : lines_of(std::string(PEREGRINE_NM) + " --defined-only " + object)) {
      // "address type name"; lower-case types other than v and w are local.
      const char type = line.size() > 17 ? line[17] : ' ';
      if (line.find(" __odr_asan.") != std::string::npos) continue;
      if (type == ' ' || (type >= 'a' && type <= 'z' && type != 'v' && type != 'w' && type != 'u')) continue;
      exported.push_back(line.substr(17));
    }
    const std::string name = "isa_" + isa;
    const std::string table = "N9peregrine3ops3cpu" + std::to_string(name.size()) + name + "6kTableE";
    ASSERT_EQ(exported.size(), 1u) << object << " exports more than its table: " << exported.back();
    EXPECT_EQ(exported[0], "D _Z" + table);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16"}));
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
