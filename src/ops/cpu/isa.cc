// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/isa.h"

#include <cpuid.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "ops/cpu/cpu_device.h"

namespace peregrine::ops::cpu {

namespace isa_plain {
extern const KernelTable kTable;
}
namespace isa_avx2 {
extern const KernelTable kTable;
}
namespace isa_avx512 {
extern const KernelTable kTable;
}
namespace isa_avx512_vnni {
extern const KernelTable kTable;
}
namespace isa_avx512_bf16 {
extern const KernelTable kTable;
}

namespace {

bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 29)) != 0;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/// Intel's server cores start a 512-bit vdpbf16ps every other cycle, but two 512-bit multiply-adds of float32
/// each cycle: widening bfloat16 weights (once per block of rows) gives twice the speed there. AMD's start
/// both at the same rate, so that the dot product gives twice the speed instead.
bool dot_product_pays() { return !__builtin_cpu_is("intel"); }

/// Slowest first.
std::vector<const KernelTable*> available() {
  __builtin_cpu_init();
  std::vector<const KernelTable*> tables = {&isa_plain::kTable};
  if (has_avx2()) tables.push_back(&isa_avx2::kTable);
  if (has_avx512()) tables.push_back(&isa_avx512::kTable);
  if (!has_avx512() || !__builtin_cpu_supports("avx512vnni")) return tables;
  tables.push_back(&isa_avx512_vnni::kTable);
  if (__builtin_cpu_supports("avx512bf16")) {
    tables.insert(dot_product_pays() ? tables.end() : tables.end() - 2, &isa_avx512_bf16::kTable);
  }
  return tables;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : available()) names.emplace_back(table->name);
  return names;
}

const KernelTable& kernels_for(const std::string& name) {
  const auto tables = available();
  if (name.empty()) return *tables.back();
  for (const KernelTable* table : tables) {
    if (name == table->name) return *table;
  }
  const bool known = name == "avx2" || name == "avx512" || name == "avx512_vnni" || name == "avx512_bf16";
  core::fail(core::ErrorKind::kInvalidArgument, "instruction set {} is {}; this processor can run {}",
             core::quoted(name), known ? "not supported by this processor" : "unknown",
             fmt::join(available_isas(), ", "));
}

}  // namespace peregrine::ops::cpu
