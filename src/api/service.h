// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "api/exchange.h"
#include "serving/metrics.h"
#include "serving/model.h"
#include "serving/models.h"

namespace peregrine::api {

/// All routes over a set of models (docs/api.md). Reads every model's tokenizer and chat template first;
/// throws Error naming the model and file. The arguments must outlive the service.
std::unique_ptr<Service> create_service(serving::Models& models, serving::Metrics& metrics);

/// The same over models that are owned elsewhere, in this order.
std::unique_ptr<Service> create_service(std::vector<serving::Model*> models, serving::Metrics& metrics);

}  // namespace peregrine::api
