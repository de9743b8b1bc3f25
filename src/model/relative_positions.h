// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder_config.h"

namespace peregrine::model {

/// Which keys a query may see: decoders look back only, encoders both ways.
enum class Direction : std::uint8_t { kBackward, kBoth };

/// The bucket of a distance (position of the key minus that of the query). With kBoth the upper half of the
/// buckets is for keys behind the query's position. Raffel et al. 2020, section 2.1, with the rounding of
/// the published models.
std::int32_t relative_bucket(const RelativePositionsConfig& config, std::int32_t distance,
                             Direction direction);

/// What attention adds for each head and distance (ops::AttentionArgs::distance_bias, with distance_limit =
/// max_distance) from the stored table `bias` [buckets, heads].
std::vector<float> distance_bias(const RelativePositionsConfig& config, std::int32_t heads,
                                 std::span<const float> bias, Direction direction);

}  // namespace peregrine::model
