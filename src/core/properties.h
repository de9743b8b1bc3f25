// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peregrine::core {

/// Parses the text of a Java properties file (java.util.Properties.load: comments with # or !, '=', ':' or
/// white space after the key, backslash escapes including \uXXXX, continued lines), in file order; the last
/// of several lines with one key counts, as in Java. Values keep trailing white space cut, which Java keeps
/// but no reader of such files means. Throws Error(kInvalidArgument) that names `where` and the line for a
/// malformed \u escape or a NUL byte.
std::vector<std::pair<std::string, std::string>> parse_properties(std::string_view text,
                                                                  std::string_view where);

}  // namespace peregrine::core
