// SPDX-License-Identifier: Apache-2.0
#include "api/health.h"

#include <fmt/format.h>

#include <string_view>

#include "api/json_output.h"

namespace peregrine::api {
namespace {

using serving::ModelState;
using serving::ModelStatus;

std::string_view ping_status(ModelState state) {
  switch (state) {
    case ModelState::kReady:
      return "Healthy";
    case ModelState::kLoading:
      return "PENDING";
    case ModelState::kFailed:
      return "FAILED";
    case ModelState::kRestarting:
    case ModelState::kDraining:
      return "Unhealthy";
  }
  return "Unhealthy";
}

/// Why a model would not take a request now; empty where it would.
std::string obstacle(const ModelStatus& status) {
  switch (status.state) {
    case ModelState::kReady:
      if (status.job_queue_size == 0 || status.queued < status.job_queue_size) return {};
      return fmt::format("its queue is full ({} requests)", status.queued);
    case ModelState::kLoading:
      if (status.total_bytes == 0) return "loading";
      return fmt::format("loading, {} of {} bytes", status.loaded_bytes, status.total_bytes);
    case ModelState::kRestarting:
      return "its engine host is being restarted";
    case ModelState::kDraining:
      return "draining";
    case ModelState::kFailed:
      return "failed: " + status.error;
  }
  return "unknown";
}

}  // namespace

void write_ping(std::span<serving::Model* const> models, Head& head, std::string& body) {
  head.content_type = "application/json";
  body += '{';
  std::string_view separator = "\n  ";
  for (const serving::Model* model : models) {
    const ModelState state = model->status().state;
    if (state == ModelState::kFailed) head.status = 500;
    body += separator;
    append_json_string(body, model->name());
    body += fmt::format(": {{\n    \"status\": \"{}\"\n  }}", ping_status(state));
    separator = ",\n  ";
  }
  body += models.empty() ? "}\n" : "\n}\n";
}

void write_readiness(std::span<serving::Model* const> models, Head& head, std::string& body) {
  head.content_type = "application/json";
  std::string reasons;
  for (const serving::Model* model : models) {
    const std::string reason = obstacle(model->status());
    if (reason.empty()) continue;
    if (!reasons.empty()) reasons += ',';
    append_json_string(reasons, model->name());
    reasons += ':';
    append_json_string(reasons, reason);
  }
  if (reasons.empty()) {
    body += "{\"status\":\"ready\"}\n";
    return;
  }
  head.status = 503;
  head.headers.emplace_back("Retry-After", "1");
  body += fmt::format("{{\"status\":\"not ready\",\"models\":{{{}}}}}\n", reasons);
}

}  // namespace peregrine::api
