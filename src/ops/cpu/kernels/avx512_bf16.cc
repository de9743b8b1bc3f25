// SPDX-License-Identifier: Apache-2.0
// Kernels for AVX-512 with its bfloat16 dot product.
#define PEREGRINE_ISA isa_avx512_bf16
#define PEREGRINE_AVX512
#define PEREGRINE_AVX512_BF16
#include "ops/cpu/kernels/kernels.h"
