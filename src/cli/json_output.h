// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// JSON text for the commands' output. Floats are written with the fewest digits that read back as the same
// float32, and as null where JSON has no number (infinities, NaN).

namespace peregrine::cli {

std::string json_string(std::string_view utf8);
std::string json_number(float value);
std::string json_array(std::span<const float> values);
std::string json_array(std::span<const std::int32_t> values);

}  // namespace peregrine::cli
