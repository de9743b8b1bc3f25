// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "api/exchange.h"
#include "serving/model.h"

namespace peregrine::api {

/// GET /ping (specification 1.5): how each model is. 500 where one has failed.
void write_ping(std::span<serving::Model* const> models, Head& head, std::string& body);

/// GET /readyz: 200 where every model would take a request now, else 503 with the reasons.
void write_readiness(std::span<serving::Model* const> models, Head& head, std::string& body);

}  // namespace peregrine::api
