// SPDX-License-Identifier: Apache-2.0
// Kernels for any x86-64 processor.
#define PEREGRINE_ISA isa_plain
#include "ops/cpu/kernels/kernels.h"
