// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "ops/arguments.h"
#include "ops/cpu/compute.h"

namespace peregrine::ops::cpu {

/// Working memory of a stream's operations, kept between them so that nothing is allocated.
struct Plans {
  /// How one sequence's attention is cut into items.
  struct AttentionPlan {
    std::int64_t first_row = 0;
    std::int64_t vectors = 0;  ///< Query vectors of each key-value head: rows x heads of a group...
    std::int64_t chunks = 0;   ///< ... and into how many items they go.
    std::int64_t first_segment = 0;
    std::int64_t end_segment = 0;    ///< Segments that any row sees.
    std::int64_t parts = 1;          ///< Into how many items the segments go; 1: not cut, nothing to merge.
    std::int64_t state_vectors = 0;  ///< Query vectors of those sequences before it that are cut.
    std::int64_t first_item = 0;     ///< In the present round.
  };
  std::vector<AttentionPlan> attention;  ///< Of each sequence.
  Region states;                         ///< Of segments that wait to be merged.

  // Products that run side by side, and the number of groups and of panels before each; one more at the end.
  std::vector<LinearArgs> products;
  std::vector<PackActivationsTask> packs;
  std::vector<LinearTask> tasks;
  std::vector<std::size_t> pack_of;  ///< Which activations a task multiplies.
  std::vector<std::int64_t> first_group;
  std::vector<std::int64_t> first_strip;
};

// The operations of a stream, carried out now by all threads of `compute`, whose mutex the caller holds. They
// throw Error(kInternal) where arguments do not fit together, before anything is written.

void run(Compute& compute, const EmbedArgs& args);
void run(Compute& compute, const NormArgs& args);
void run(Compute& compute, Plans& plans, const LinearArgs& args);
void run(Compute& compute, Plans& plans, const LinearPairArgs& args);
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
