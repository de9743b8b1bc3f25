// SPDX-License-Identifier: Apache-2.0
#include "api/exchange.h"

namespace peregrine::api {

std::optional<std::string_view> HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return std::nullopt;
}

}  // namespace peregrine::api
