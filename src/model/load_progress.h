// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace peregrine::model {

/// Called while a model loads with bytes of weights done and in all; from the loading thread.
using LoadProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

}  // namespace peregrine::model
