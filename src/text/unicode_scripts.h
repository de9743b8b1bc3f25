// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace peregrine::text {

/// The names of the scripts of Unicode 14, without Unknown.
std::span<const std::string_view> unicode_scripts();

}  // namespace peregrine::text
