// SPDX-License-Identifier: Apache-2.0
// Kernels for AVX-512 with its dot product of bytes (VNNI).
#define PEREGRINE_ISA isa_avx512_vnni
#define PEREGRINE_AVX512
#define PEREGRINE_VNNI
#include "ops/cpu/kernels/kernels.h"
