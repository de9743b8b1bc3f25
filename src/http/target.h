// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace peregrine::http {

/// Splits a request target (RFC 9112 section 3.2: "/path?query", "http://host/path?query", or "*" with
/// OPTIONS) into its percent-decoded path and its raw query. Where that cannot be done it returns false, and
/// `problem` says why.
bool split_target(std::string_view method, std::string_view target, std::string& path, std::string& query,
                  std::string& problem);

}  // namespace peregrine::http
