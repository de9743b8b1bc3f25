// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace peregrine::core {

/// The candidate nearest to `name` by edit distance (Levenshtein 1966), for "did you mean": empty where even
/// the nearest differs in more than a third of its letters. Names beyond 64 bytes get none.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace peregrine::core
