// SPDX-License-Identifier: Apache-2.0
#include "http/target.h"

#include <fmt/format.h>

#include <boost/beast/core/string.hpp>

#include "core/ascii.h"
#include "core/error.h"

namespace peregrine::http {
namespace {

bool decode_percent(std::string_view text, std::string& decoded) {
  decoded.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    if (text.size() - i < 3) return false;
    const int high = core::hex_digit(text[i + 1]);
    const int low = core::hex_digit(text[i + 2]);
    // A NUL would end the path early for whatever hands it to the system.
    if (high < 0 || low < 0 || high + low == 0) return false;
    decoded.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

/// The part of an absolute target behind scheme and host; the target itself where it is not one.
std::string_view without_authority(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!boost::beast::iequals(target.substr(0, scheme.size()), scheme)) continue;
    const std::size_t end = target.find_first_of("/?", scheme.size());
    return end == std::string_view::npos ? std::string_view() : target.substr(end);
  }
  return target;
}

}  // namespace

bool split_target(std::string_view method, std::string_view target, std::string& path, std::string& query,
                  std::string& problem) {
  if (method == "OPTIONS" && target == "*") {
    path = "*";
    query.clear();
    return true;
  }
  const std::string_view local = without_authority(target);
  const bool absolute = local.size() != target.size();
  const std::size_t mark = local.find('?');
  std::string_view raw_path = local.substr(0, mark);
  if (raw_path.empty() && absolute) raw_path = "/";
  if (!raw_path.starts_with('/')) {
    problem = fmt::format("The request target must begin with /, found {}", core::quoted(target));
    return false;
  }
  if (!decode_percent(raw_path, path)) {
    problem = fmt::format("The path has a % that is not followed by two hexadecimal digits (00 excluded): {}",
                          core::quoted(raw_path));
    return false;
  }
  query = mark == std::string_view::npos ? std::string_view() : local.substr(mark + 1);
  return true;
}

}  // namespace peregrine::http
