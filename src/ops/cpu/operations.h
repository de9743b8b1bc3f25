// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "ops/arguments.h"
#include "ops/cpu/compute.h"

namespace peregrine::ops::cpu {

/// Working memory of attention's planning, kept between steps so that nothing is allocated.
struct AttentionPlan {
  std::vector<std::int64_t> first_item;  ///< Of each sequence; one more at the end.
};

// The operations of a stream, carried out now by all threads of `compute`, whose mutex the caller holds. They
// throw Error(kInternal) where arguments do not fit together, before anything is written.

void run(Compute& compute, const EmbedArgs& args);
void run(Compute& compute, const NormArgs& args);
void run(Compute& compute, const LinearArgs& args);
void run(Compute& compute, const GatedActivationArgs& args);
void run(Compute& compute, const RotaryAnglesArgs& args);
void run(Compute& compute, const RotateAndStoreArgs& args);
void run(Compute& compute, AttentionPlan& plan, const AttentionArgs& args);
void run(Compute& compute, const CopyBlocksArgs& args);

/// "linear bf16*bf16 avx512 panel16 tile64x6 fma"
std::string linear_kernel_name(const KernelTable& kernels, Number weight, Number activation);

}  // namespace peregrine::ops::cpu
