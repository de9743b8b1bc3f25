// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <cstddef>
#include <string_view>

#include "api/exchange.h"

namespace peregrine::api {

/// A value takes a few bytes of text and tens of memory; so many are more than any prompt of token ids has.
inline constexpr std::size_t kMaxJsonValues = 2'000'000;

/// The JSON object of a request's body. Throws StatusError(`parse_status`): not JSON (with the byte where it
/// ends to be), nested too deeply, more than kMaxJsonValues values, no object; 415 where it is not JSON and
/// the content type says that it is none.
boost::json::object parse_body(const HttpRequest& request, int parse_status);

}  // namespace peregrine::api
