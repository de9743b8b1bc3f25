// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "ops/device.h"

namespace peregrine::ops::reference {

/// The naive device: plain loops, operations run only when somebody waits for them, and memory at addresses
/// that the host cannot touch (reading through a DeviceAddress is a segmentation fault). Slow on purpose; it
/// checks the others and the callers.
std::unique_ptr<Device> create_reference_device(const DeviceOptions& options);

}  // namespace peregrine::ops::reference
