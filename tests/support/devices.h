// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "ops/device.h"

namespace peregrine::testing {

/// A device that tests run on: "reference", or "cpu" with one of its instruction sets.
struct DeviceCase {
  std::string device;
  std::string isa;

  std::string name() const { return isa.empty() ? device : device + "_" + isa; }
  std::unique_ptr<ops::Device> create(int threads = 2) const {
    return ops::create_device(device, {.threads = threads, .isa = isa});
  }
};

/// For test names and failure messages.
inline void PrintTo(const DeviceCase& device, std::ostream* out) { *out << device.name(); }

/// The reference device, and the cpu device with every instruction set that this processor can run.
inline std::vector<DeviceCase> all_devices() {
  std::vector<DeviceCase> cases = {{"reference", ""}};
  for (const std::string& isa : ops::available_isas()) cases.push_back({"cpu", isa});
  return cases;
}

}  // namespace peregrine::testing
