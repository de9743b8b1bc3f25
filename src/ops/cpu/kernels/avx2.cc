// SPDX-License-Identifier: Apache-2.0
// Kernels for AVX2 with FMA and F16C.
#define PEREGRINE_ISA isa_avx2
#define PEREGRINE_AVX2
#include "ops/cpu/kernels/kernels.h"
