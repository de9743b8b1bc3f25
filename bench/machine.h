// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>

#include "ops/cpu/limits.h"
#include "ops/device.h"

namespace peregrine::bench {

/// The cpu device that is measured, and what the machine can do at most.
struct Machine {
  std::unique_ptr<ops::Device> device;
  ops::cpu::Limits limits;
};

/// As the environment says: PEREGRINE_ISA forces an instruction set, PEREGRINE_THREADS the number of threads.
inline Machine measure_machine() {
  const char* isa = std::getenv("PEREGRINE_ISA");
  const char* threads = std::getenv("PEREGRINE_THREADS");
  const ops::DeviceOptions options{threads != nullptr ? std::atoi(threads) : 0, isa != nullptr ? isa : ""};
  return {ops::create_device("cpu", options), ops::cpu::measure_limits(options.threads, options.isa)};
}

}  // namespace peregrine::bench
