// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ops/cpu/kernels/kernel_table.h"

namespace peregrine::ops::cpu {

/// The kernels of the instruction set `name`, or of the best one where empty. Throws Error(kInvalidArgument)
/// where it is unknown or this processor lacks it. The best is decided by the processor's features and maker
/// alone, so that results are the same on every run.
const KernelTable& kernels_for(const std::string& name);

}  // namespace peregrine::ops::cpu
