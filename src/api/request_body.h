// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <string_view>

#include "api/exchange.h"

namespace peregrine::api {

/// A value takes a few bytes of text and tens of memory; so many are more than any prompt of token ids has.
inline constexpr std::size_t kMaxJsonValues = 2'000'000;

/// The JSON of a request's body. Throws StatusError(`parse_status`): not JSON (with the byte where it ends to
/// be), nested too deeply, more than kMaxJsonValues values; 415 where it is not JSON and the content type
/// says that it is none.
boost::json::value parse_value(const HttpRequest& request, int parse_status);

/// The object that it must be. Throws StatusError(`parse_status`) too where it is none.
boost::json::object parse_body(const HttpRequest& request, int parse_status);

/// Throws that a body is no object.
[[noreturn]] void fail_not_object(const HttpRequest& request, int parse_status);

}  // namespace peregrine::api
