// SPDX-License-Identifier: Apache-2.0
#include "engine/checks.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace peregrine::engine {

using core::ErrorKind;

void check_range(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high,
                 std::string_view because) {
  if (value >= low && value <= high) return;
  core::fail(ErrorKind::kInvalidArgument, "{} is {}; allowed is {} to {}{}", name, value, low, high, because);
}

std::int64_t choose_model_length(std::int64_t max_positions, std::int64_t usual_positions, std::int64_t asked,
                                 std::int64_t least, std::string_view because) {
  const std::int64_t longest =
      std::min<std::int64_t>(max_positions, std::numeric_limits<std::int32_t>::max() / 2);
  const std::int64_t usual = usual_positions == 0 ? longest : std::min(usual_positions, longest);
  const std::int64_t length = asked == 0 ? usual : asked;
  check_range("max_model_length", length, least, longest, because);
  return length;
}

void check_values(std::span<const std::int32_t> values, std::int64_t count, std::string_view name,
                  std::string_view what) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= count) {
      core::fail(ErrorKind::kInvalidArgument, "{}[{}] is {}; the model's {} are 0 to {}", name, i, values[i],
                 what, count - 1);
    }
  }
}

}  // namespace peregrine::engine
