// SPDX-License-Identifier: Apache-2.0
// All kernels of one instruction set: included once by the source file of each, after PEREGRINE_ISA (the
// namespace) and the PEREGRINE_AVX2, PEREGRINE_AVX512, PEREGRINE_VNNI and PEREGRINE_AVX512_BF16 that it has
// are defined.
#pragma once

#include <immintrin.h>

#include "ops/cpu/kernels/kernel_table.h"
// The order counts: each part uses those above it.
// clang-format off
#include "ops/cpu/kernels/unroll.h"
#if defined(PEREGRINE_AVX512)
#include "ops/cpu/kernels/vector_avx512.h"
#elif defined(PEREGRINE_AVX2)
#include "ops/cpu/kernels/vector_avx2.h"
#else
#include "ops/cpu/kernels/vector_plain.h"
#endif
#include "ops/cpu/kernels/math.h"
#include "ops/cpu/kernels/tile.h"
#include "ops/cpu/kernels/activations.h"
#include "ops/cpu/kernels/linear.h"
#include "ops/cpu/kernels/rows.h"
#include "ops/cpu/kernels/lanes.h"
#include "ops/cpu/kernels/rotary.h"
#include "ops/cpu/kernels/attention_tile.h"
#include "ops/cpu/kernels/softmax.h"
#include "ops/cpu/kernels/attention.h"
#include "ops/cpu/kernels/limits.h"
// clang-format on

namespace peregrine::ops::cpu::PEREGRINE_ISA {

#define PEREGRINE_NAME_OF_(isa) #isa
#define PEREGRINE_NAME_OF(isa) PEREGRINE_NAME_OF_(isa)

extern const KernelTable kTable;
const KernelTable kTable = {
    .name = PEREGRINE_NAME_OF(PEREGRINE_ISA) + sizeof("isa"),
    .tile_tokens = kTileTokens,
    .stream_tokens = kStreamTokens,
#if defined(PEREGRINE_AVX512_BF16)
    .dot_bf16 = true,
#else
    .dot_bf16 = false,
#endif
#if defined(PEREGRINE_VNNI)
    .dot_int8 = true,
#else
    .dot_int8 = false,
#endif
    .arithmetic =
#if defined(PEREGRINE_AVX2) || defined(PEREGRINE_AVX512)
        "fma",
#else
        "mul+add",
#endif
    .linear_scratch = kLinearScratch,
    .attention_scratch = attention_scratch,
    .rotate_scratch = rotate_scratch,
    .pack_activations = pack_activations,
    .linear = linear,
    .norm = norm,
    .gated = gated,
    .attention = attention,
    .merge_states = merge_states,
    .rotate = rotate,
    .read_memory = read_memory,
    .spin_f32 = spin_f32,
    .spin_bf16 = spin_bf16,
    .spin_int8 = spin_int8,
};

}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
