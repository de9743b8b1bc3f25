// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "api/exchange.h"

namespace peregrine::api {

/// A random UUID (version 4, RFC 9562).
std::string fresh_uuid();

/// The client's x-request-id where it is 1 to 128 printable ASCII characters, else a fresh UUID: it goes into
/// headers and logs.
std::string request_id_of(const HttpRequest& request);

}  // namespace peregrine::api
