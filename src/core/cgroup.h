// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace peregrine::core {

/// Processors' worth of time that the control groups of this process allow it: the smallest quota of its
/// group and those around it, of version 2 (cpu.max) or 1 (cpu.cfs_quota_us). Infinity where there is none,
/// or none that can be read. `root` stands for "/", for tests.
double cpu_quota(const std::filesystem::path& root = "/");

}  // namespace peregrine::core
