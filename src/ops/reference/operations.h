// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ops/arguments.h"
#include "ops/reference/address_space.h"

// The operations of ops/stream.h, each run to its end by the calling thread. Sums are float32, in ascending
// order. All throw Error(kInternal) where an argument is not what ops/arguments.h says.

namespace peregrine::ops::reference {

void execute(const AddressSpace& memory, const EmbedArgs& args);
void execute(const AddressSpace& memory, const NormArgs& args);
void execute(const AddressSpace& memory, const LinearArgs& args);
void execute(const AddressSpace& memory, const GatedActivationArgs& args);
void execute(const AddressSpace& memory, const RotaryAnglesArgs& args);
void execute(const AddressSpace& memory, const RotateAndStoreArgs& args);
void execute(const AddressSpace& memory, const AttentionArgs& args);
void execute(const AddressSpace& memory, const RouteArgs& args);
void execute(const AddressSpace& memory, const ExpertsArgs& args);
void execute(const AddressSpace& memory, const CopyBlocksArgs& args);

}  // namespace peregrine::ops::reference
