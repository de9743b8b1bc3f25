// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_report.h"

#include <fmt/format.h>

#include <cstdio>

#include "core/log.h"

namespace peregrine::cli {

void Report::line(const std::string& text) const {
  if (json_) {
    spdlog::info("{}", text);
  } else {
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }
}

void Report::member(std::string_view name, const std::string& value) {
  members_ += fmt::format("{}\"{}\":{}", members_.empty() ? "" : ",", name, value);
}

void Report::number(std::string_view name, double value) { member(name, fmt::format("{:.6g}", value)); }

void Report::finish() const {
  if (json_) std::printf("{%s}\n", members_.c_str());
}

}  // namespace peregrine::cli
