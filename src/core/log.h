// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace peregrine::core {

/// Sends all logging to standard error, so that standard output carries data alone. `level` is one of trace,
/// debug, info, warn, error, off. Throws Error(kInvalidArgument) for another name.
void configure_logging(const std::string& level);

}  // namespace peregrine::core
