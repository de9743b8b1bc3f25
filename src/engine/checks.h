// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

// What both engines check of options and requests. Everything here throws Error(kInvalidArgument) that names
// the thing, its value and what is allowed.

namespace peregrine::engine {

/// Largest max_rolling_batch_size and max_rolling_batch_prefill_tokens.
inline constexpr std::int64_t kMostSequences = 4096;
inline constexpr std::int64_t kMostPrefillTokens = 131072;

/// `because` is put behind what is allowed.
void check_range(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high,
                 std::string_view because = {});

/// The longest context of a model of `max_positions` that is asked for `asked` (0: nothing; then it is
/// `usual_positions`, where that is not 0), at least `least`. Positions are int32, with room to count on.
std::int64_t choose_model_length(std::int64_t max_positions, std::int64_t usual_positions, std::int64_t asked,
                                 std::int64_t least, std::string_view because);

/// Values of a list, each from 0 below `count`; `what` is what the model calls them ("token ids").
void check_values(std::span<const std::int32_t> values, std::int64_t count, std::string_view name,
                  std::string_view what);

}  // namespace peregrine::engine
