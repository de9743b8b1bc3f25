// SPDX-License-Identifier: Apache-2.0
#include "support/object_symbols.h"

#include <array>
#include <cstdio>
#include <memory>

namespace peregrine::testing {
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

}  // namespace

std::vector<std::string> exported_symbols(const std::string& nm, const std::string& object) {
  std::vector<std::string> exported;
  for (const std::string& line : lines_of(nm + " --defined-only " + object)) {
    // "address type name"; lower-case types other than v and w are local.
    const char type = line.size() > 17 ? line[17] : ' ';
    if (line.find(" __odr_asan.") != std::string::npos) continue;
    if (type == ' ' || (type >= 'a' && type <= 'z' && type != 'v' && type != 'w' && type != 'u')) continue;
    exported.push_back(line.substr(17));
  }
  return exported;
}

std::string source_name(const std::string& object) {
  return object.substr(object.rfind('/') + 1, object.find(".cc") - object.rfind('/') - 1);
}

}  // namespace peregrine::testing
