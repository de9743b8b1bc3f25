// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/dtype.h"
#include "ops/device.h"

namespace peregrine::model {

/// Throws Error(kUnsupported) where weights cannot be stored as `weights`, or `device` cannot compute in
/// `compute`, that says what it can.
void check_arithmetic(core::DType weights, core::DType compute, const ops::Device& device);

}  // namespace peregrine::model
