// SPDX-License-Identifier: Apache-2.0
// Kernels for AVX-512 F, BW, VL and DQ.
#define PEREGRINE_ISA isa_avx512
#define PEREGRINE_AVX512
#include "ops/cpu/kernels/kernels.h"
