// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <optional>

#include "core/error.h"
#include "generation/parameters.h"
#include "generation/sampled_token.h"

// Between the messages and the types that both sides compute with. Every conversion there and back gives the
// same value.

namespace peregrine::channel {

/// All but the seed, which has a field of its own in Submit.
void to_message(const generation::Parameters& parameters, wire::Sampling& message);
/// Throws Error(kInvalidArgument) where a value cannot be (n < 1, a number that is not finite, ...).
generation::Parameters from_message(const wire::Sampling& message);

void to_message(const generation::SampledToken& token, wire::SampledToken& message);
generation::SampledToken from_message(const wire::SampledToken& message);

wire::Finish to_message(generation::FinishReason reason);
/// Nothing for RUNNING. Throws Error(kDataLoss) for a value that is none.
std::optional<generation::FinishReason> from_message(wire::Finish finish);

void to_message(const core::Error& error, wire::Error& message);
core::Error from_message(const wire::Error& message);

}  // namespace peregrine::channel
