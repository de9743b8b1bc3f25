// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/device.h"

namespace peregrine::ops::cpu {

/// The processor's own memory and vector units: packed weights, ragged batches, kernels picked by instruction
/// set.
std::unique_ptr<Device> create_cpu_device(const DeviceOptions& options);

/// See ops::available_isas.
std::vector<std::string> available_isas();

}  // namespace peregrine::ops::cpu
