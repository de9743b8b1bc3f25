// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "ops/arguments.h"
#include "ops/cpu/compute.h"

namespace peregrine::ops::cpu {

/// Working memory of a stream's operations, kept between them so that nothing is allocated.
struct Plans {
  std::vector<std::int64_t> first_item;  ///< Attention's, of each sequence; one more at the end.

  // Products that run side by side, and the number of groups and of panels before each; one more at the end.
  std::vector<LinearArgs> products;
  std::vector<PackActivationsTask> packs;
  std::vector<LinearTask> tasks;
  std::vector<std::int64_t> first_group;
  std::vector<std::int64_t> first_strip;
};

// The operations of a stream, carried out now by all threads of `compute`, whose mutex the caller holds. They
// throw Error(kInternal) where arguments do not fit together, before anything is written.

void run(Compute& compute, const EmbedArgs& args);
void run(Compute& compute, const NormArgs& args);
void run(Compute& compute, Plans& plans, const LinearArgs& args);
void run(Compute& compute, const GatedActivationArgs& args);
void run(Compute& compute, const RotaryAnglesArgs& args);
void run(Compute& compute, const RotateAndStoreArgs& args);
void run(Compute& compute, Plans& plans, const AttentionArgs& args);
void run(Compute& compute, const RouteArgs& args);
void run(Compute& compute, Plans& plans, const ExpertsArgs& args);
void run(Compute& compute, const CopyBlocksArgs& args);

/// Runs plans.products side by side, as many at a time as kRowBlock rows make. None writes what another
/// reads.
void run_products(Compute& compute, Plans& plans);

/// What the kernel of gated_activation() is told.
GatedTask gated_task(const GatedActivationArgs& args);

/// "linear bf16*bf16 avx512 panel16 tile64x6 fma"
std::string linear_kernel_name(const KernelTable& kernels, Number weight, Number activation);

}  // namespace peregrine::ops::cpu
