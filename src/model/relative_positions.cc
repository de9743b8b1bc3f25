// SPDX-License-Identifier: Apache-2.0
#include "model/relative_positions.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>

namespace peregrine::model {

std::int32_t relative_bucket(const RelativePositionsConfig& config, std::int32_t distance,
                             Direction direction) {
  std::int32_t buckets = config.buckets;
  std::int32_t first = 0;
  if (direction == Direction::kBoth) {
    buckets /= 2;
    if (distance > 0) first = buckets;
  } else {
    distance = std::min(distance, 0);
  }
  const std::int32_t size = std::abs(distance);
  const std::int32_t exact = buckets / 2;
  if (size < exact) return first + size;
  // In float32, as the models were trained: the quotient decides where a bucket begins.
  const float share = std::log(static_cast<float>(size) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(config.max_distance) / exact));
  const auto further = static_cast<std::int32_t>(share * static_cast<float>(buckets - exact));
  return first + std::min(exact + further, buckets - 1);
}

std::vector<float> distance_bias(const RelativePositionsConfig& config, std::int32_t heads,
                                 std::span<const float> bias, Direction direction) {
  const std::int32_t limit = config.max_distance;
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(heads) * (2 * static_cast<std::size_t>(limit) + 1));
  for (std::int32_t head = 0; head < heads; ++head) {
    for (std::int32_t distance = -limit; distance <= limit; ++distance) {
      const auto bucket = static_cast<std::size_t>(relative_bucket(config, distance, direction));
      out.push_back(bias[bucket * static_cast<std::size_t>(heads) + static_cast<std::size_t>(head)]);
    }
  }
  return out;
}

}  // namespace peregrine::model
