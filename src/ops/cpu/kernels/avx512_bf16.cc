// SPDX-License-Identifier: Apache-2.0
// Kernels for AVX-512 with its dot products of bfloat16 pairs and of bytes: every processor that has the
// first has the second.
#define PEREGRINE_ISA isa_avx512_bf16
#define PEREGRINE_AVX512
#define PEREGRINE_VNNI
#define PEREGRINE_AVX512_BF16
#include "ops/cpu/kernels/kernels.h"
