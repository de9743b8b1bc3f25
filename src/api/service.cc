// SPDX-License-Identifier: Apache-2.0
#include "api/service.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <exception>
#include <utility>

#include "api/dialects.h"
#include "api/encoder_dialects.h"
#include "api/errors.h"
#include "api/health.h"
#include "api/json_output.h"
#include "api/logged_exchange.h"
#include "api/request_body.h"
#include "api/request_id.h"
#include "api/router.h"
#include "core/log.h"

namespace peregrine::api {
namespace {

using boost::json::object;
using core::ErrorKind;

constexpr std::string_view kEmptyObject = "{}\n";

/// The member where it is there and not null.
const boost::json::value* find_member(const object& body, std::string_view name) {
  const auto* found = body.if_contains(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

[[noreturn]] void fail_model(std::string_view name) {
  throw StatusError(404, ErrorKind::kNotFound, "ModelNotFoundException",
                    fmt::format("Model or workflow not found: {}", name));
}

/// The style of the errors of a route, by its path.
bool is_open_ai(std::string_view path) { return path.starts_with("/v1/"); }

ErrorStyle style_of(const core::Error& error, std::string_view path) {
  if (is_open_ai(path)) return ErrorStyle::kOpenAi;
  // LMI's handlers speak about requests, everything else is the server's.
  const auto* status = dynamic_cast<const StatusError*>(&error);
  const bool of_request = status != nullptr ? status->type().empty()
                                            : error.kind() == ErrorKind::kInvalidArgument ||
                                                  error.kind() == ErrorKind::kUnsupported;
  return of_request ? ErrorStyle::kInference : ErrorStyle::kServer;
}

std::unique_ptr<Exchange> error_reply(const core::Error& error, std::string_view path) {
  Head head;
  std::string body;
  write_error(error, style_of(error, path), head, body);
  return make_reply(std::move(head), std::move(body));
}

std::unique_ptr<Exchange> json_reply(std::string body) {
  Head head;
  head.content_type = "application/json";
  return make_reply(std::move(head), std::move(body));
}

/// Refuses what DJL Serving's clients can ask for outside of the body and would miss in the answer.
void check_properties(const RequestProperties& properties) {
  if (properties.find("handler")) {
    throw StatusError(400, ErrorKind::kInvalidArgument, "BadRequestException",
                      "The handler can't be overridden in a request");
  }
  if (const auto token = properties.find("x-starting-token")) {
    throw StatusError(400, ErrorKind::kInvalidArgument, "BadRequestException",
                      fmt::format("Invalid x-starting-token: {}", *token));
  }
  if (properties.find("x-synchronous") == "false") {
    throw StatusError(400, ErrorKind::kUnsupported, "BadRequestException",
                      "x-synchronous=false is not supported yet: leave it out, or stream the answer");
  }
  auto adapter = properties.find("x-amzn-sagemaker-adapter-identifier");
  if (!adapter) adapter = properties.find("adapter");
  if (adapter && !adapter->empty()) {
    throw StatusError(
        424, ErrorKind::kUnsupported, "",
        fmt::format("Input Parsing failed. Ensure that the request payload is valid. Adapter {} is "
                    "not registered (adapters are not supported yet)",
                    *adapter));
  }
}

class ApiService : public Service {
 public:
  ApiService(std::vector<serving::Model*> models, serving::Metrics& metrics)
      : models_(std::move(models)), metrics_(metrics), created_(std::time(nullptr)) {
    for (serving::Model* model : models_) served_.push_back(load_text(*model));
  }

  std::unique_ptr<Exchange> handle(HttpRequest request, std::function<void()> wake) override {
    ExchangeInfo info;
    info.begin = std::chrono::steady_clock::now();
    auto log = std::make_shared<RequestLog>();
    log->request_id = request_id_of(request);
    const Route route = find_route(request.path);
    info.method = request.method;
    info.route = route.pattern;
    info.quiet = route.endpoint == Endpoint::kPing || route.endpoint == Endpoint::kLive ||
                 route.endpoint == Endpoint::kReady || route.endpoint == Endpoint::kMetrics;
    std::unique_ptr<Exchange> exchange;
    try {
      exchange = answer(request, route, log, std::move(wake));
    } catch (const core::Error& error) {
      exchange = error_reply(error, request.path);
    } catch (const std::bad_alloc&) {
      exchange = error_reply(core::Error(ErrorKind::kOverloaded,
                                         "There is not enough memory for this request now; try again later"),
                             request.path);
    } catch (const std::exception& error) {
      exchange = error_reply(core::Error(ErrorKind::kInternal, error.what()), request.path);
    }
    return log_exchange(std::move(exchange), std::move(info), std::move(log), metrics_);
  }

  void refuse(int status, std::string_view message, Head& head, std::string& body) override {
    const bool clients = status < 500;
    const StatusError error(status, clients ? ErrorKind::kInvalidArgument : ErrorKind::kOverloaded,
                            clients ? "BadRequestException" : "ServiceUnavailableException",
                            std::string(message));
    write_error(error, ErrorStyle::kServer, head, body);
    if (status == 413) {  // DJL Serving sends no body with it
      head.content_type.clear();
      body.clear();
    }
    const std::string request_id = fresh_uuid();
    add_common_headers(head, request_id);
    spdlog::info("request {} refused status={}: {}", request_id, status, message);
    metrics_.http_request("refused", status, 0);
  }

  void count_connections(int change) override { metrics_.http_connections(change); }

 private:
  std::unique_ptr<Exchange> answer(const HttpRequest& request, const Route& route,
                                   const std::shared_ptr<RequestLog>& log, std::function<void()> wake) const {
    if (auto refusal = check_method(request, route)) return refusal;
    switch (route.endpoint) {
      case Endpoint::kRoot:
        return json_reply(std::string(kEmptyObject));
      case Endpoint::kPing:
      case Endpoint::kLive:
      case Endpoint::kReady:
      case Endpoint::kMetrics:
        return answer_operations(route.endpoint);
      case Endpoint::kInvocations:
        return answer_invocation(request, route, log, std::move(wake));
      case Endpoint::kCompletions:
      case Endpoint::kChat:
      case Endpoint::kEmbeddings:
      case Endpoint::kRerank:
        return answer_open_ai(request, route.endpoint, log, std::move(wake));
      case Endpoint::kModels:
      case Endpoint::kModel:
        return answer_models(route);
      case Endpoint::kManagement:
      case Endpoint::kNone:
        break;
    }
    throw StatusError(404, ErrorKind::kNotFound, "ResourceNotFoundException",
                      "Requested resource is not found, please refer to API document.");
  }

  /// The refusal of a method that an endpoint does not know, or null.
  std::unique_ptr<Exchange> check_method(const HttpRequest& request, const Route& route) const {
    std::string_view allowed = allowed_methods(route.endpoint);
    // One resource has no such method in the whole interface, the others only lack the management yet.
    if (route.endpoint == Endpoint::kManagement && request.method == "POST") allowed = "GET, PUT, DELETE";
    const auto known = [&] {
      if (allowed == "GET, HEAD") return request.method == "GET" || request.method == "HEAD";
      return request.method == allowed;
    };
    if (allowed.empty() || known()) return nullptr;
    const StatusError error(405, ErrorKind::kInvalidArgument, "MethodNotAllowedException",
                            "Requested method is not allowed, please refer to API document.");
    Head head;
    std::string body;
    write_error(error, style_of(error, request.path), head, body);
    head.headers.emplace_back("Allow", allowed);
    return make_reply(std::move(head), std::move(body));
  }

  std::unique_ptr<Exchange> answer_operations(Endpoint endpoint) const {
    Head head;
    std::string body;
    if (endpoint == Endpoint::kPing) {
      write_ping(models_, head, body);
    } else if (endpoint == Endpoint::kReady) {
      write_readiness(models_, head, body);
    } else if (endpoint == Endpoint::kMetrics) {
      head.content_type = "text/plain; version=0.0.4; charset=utf-8";
      body = metrics_.text();
    } else {
      head.content_type = "application/json";
      body = "{\"status\":\"live\"}\n";
    }
    return make_reply(std::move(head), std::move(body));
  }

  std::unique_ptr<Exchange> answer_invocation(const HttpRequest& request, const Route& route,
                                              const std::shared_ptr<RequestLog>& log,
                                              std::function<void()> wake) const {
    const RequestProperties properties(request);
    const ServedModel* model = named_model(route, properties);
    if (request.method == "OPTIONS") return json_reply(std::string(kEmptyObject));
    check_properties(properties);
    const object body = read_lmi_body(request, model);
    if (model == nullptr) model = &model_of_body(body);
    log->model = model->model->name();
    if (!model->model->limits().generates()) {
      return start(*model, read_lmi_encoder(body, *model, log->request_id), log, std::move(wake));
    }
    const DialectContext context{log->request_id, std::time(nullptr), false};
    return start(*model, read_lmi(body, *model, context), log, std::move(wake));
  }

  /// The body of an LMI request to `model`, or (null) to one that it names itself. A list is the inputs of an
  /// encoder.
  object read_lmi_body(const HttpRequest& request, const ServedModel* model) const {
    if (request.body.empty()) return {{"inputs", ""}};
    boost::json::value parsed = parse_value(request, 424);
    if (parsed.is_object()) return std::move(parsed.get_object());
    if (model == nullptr && served_.size() == 1) model = &served_.front();
    if (!parsed.is_array() || model == nullptr || model->model->limits().generates()) {
      fail_not_object(request, 424);
    }
    return {{"inputs", std::move(parsed)}};
  }

  /// What an LMI request asks of an encoder: by its fields, and else what the model is served for.
  static EncodePlan read_lmi_encoder(const object& body, const ServedModel& model,
                                     const std::string& request_id) {
    using configuration::Task;
    const auto has = [&](std::string_view name) { return find_member(body, name) != nullptr; };
    EncodePlan plan;
    if (has("prompt") || has("messages")) {
      require_task(model, Task::kGenerate);
    } else if (has("query")) {
      plan = read_rerank(body, model, request_id);
    } else if (has("input") && !has("inputs")) {
      plan = read_embeddings(body, model);
    } else if (has("key") && !has("inputs")) {
      plan = read_lmi_pairs({{"inputs", body}}, model);
    } else if (!has("inputs")) {
      throw StatusError(424, ErrorKind::kInvalidArgument, "",
                        "Input Parsing failed. Ensure that the request payload is valid. Invalid request "
                        "payload. It must contain inputs, input, or query.");
    } else if (task_of(model) == Task::kRerank || has_pairs(body)) {
      plan = read_lmi_pairs(body, model);
    } else if (task_of(model) == Task::kClassify) {
      plan = read_lmi_classification(body, model);
    } else {
      plan = read_lmi_embedding(body, model);
    }
    plan.error_style = ErrorStyle::kInference;
    return plan;
  }

  /// The model that path, query, headers or custom attributes name; null where none does.
  const ServedModel* named_model(const Route& route, const RequestProperties& properties) const {
    std::string name = route.model;
    if (name.empty()) name = properties.find("model_name").value_or("");
    std::string version = route.version;
    if (version.empty()) version = properties.find("model_version").value_or("");
    if (name.empty()) return nullptr;
    const ServedModel* model = find(name);
    // Models here have no versions, so none that is asked for exists.
    if (model == nullptr || !version.empty()) fail_model(name);
    return model;
  }

  const ServedModel& model_of_body(const object& body) const {
    if (const auto* name = find_member(body, "model_name")) {
      if (!name->is_string()) fail_field("model_name", "a string", *name);
      const ServedModel* model = find(name->get_string());
      if (model == nullptr) fail_model(name->get_string());
      return *model;
    }
    if (served_.size() == 1) return served_.front();
    throw StatusError(400, ErrorKind::kInvalidArgument, "BadRequestException",
                      "Parameter model_name is required.");
  }

  /// The body picks the dialect (specification 2.8).
  static GenerationPlan read_lmi(const object& body, const ServedModel& model,
                                 const DialectContext& context) {
    if (find_member(body, "prompt") != nullptr) return read_completion(body, model, context);
    const bool has_messages = find_member(body, "messages") != nullptr;
    if (find_member(body, "inputs") != nullptr || (body.contains("inputs") && !has_messages)) {
      return read_prediction(body, model, context);
    }
    if (has_messages) return read_chat(body, model, context);
    throw StatusError(
        424, ErrorKind::kInvalidArgument, "",
        "Input Parsing failed. Ensure that the request payload is valid. Invalid request payload. "
        "Request payload should be a json object specifying the 'inputs' field; it must contain "
        "prompt, inputs, or messages.");
  }

  std::unique_ptr<Exchange> answer_open_ai(const HttpRequest& request, Endpoint endpoint,
                                           const std::shared_ptr<RequestLog>& log,
                                           std::function<void()> wake) const {
    check_properties(RequestProperties(request));
    const object body = parse_body(request, 400);
    const ServedModel& model = open_ai_model(body);
    log->model = model.model->name();
    const DialectContext context{log->request_id, std::time(nullptr), true};
    if (endpoint == Endpoint::kEmbeddings) {
      return start(model, read_embeddings(body, model), log, std::move(wake));
    }
    if (endpoint == Endpoint::kRerank) {
      EncodePlan plan = read_rerank(body, model, log->request_id);
      plan.error_style = is_open_ai(request.path) ? ErrorStyle::kOpenAi : ErrorStyle::kInference;
      return start(model, std::move(plan), log, std::move(wake));
    }
    if (!model.model->limits().generates()) {
      // LMI has the path of chats as another name of /invocations.
      if (endpoint == Endpoint::kCompletions || find_member(body, "messages") != nullptr) {
        require_task(model, configuration::Task::kGenerate);
      }
      return start(model, read_lmi_encoder(body, model, log->request_id), log, std::move(wake));
    }
    if (endpoint == Endpoint::kCompletions) {
      return start(model, read_completion(body, model, context), log, std::move(wake));
    }
    // LMI has this path as another name of /invocations.
    const bool is_prediction =
        find_member(body, "messages") == nullptr && find_member(body, "inputs") != nullptr;
    return start(model,
                 is_prediction ? read_prediction(body, model, context) : read_chat(body, model, context), log,
                 std::move(wake));
  }

  const ServedModel& open_ai_model(const object& body) const {
    const auto* name = find_member(body, "model");
    if (name == nullptr) {
      if (served_.size() == 1) return served_.front();
      throw FieldError(ErrorKind::kInvalidArgument, "model",
                       fmt::format("model must name one of the models of this server: {}", names()));
    }
    if (!name->is_string()) fail_field("model", "a string", *name);
    return open_ai_model_named(name->get_string());
  }

  const ServedModel& open_ai_model_named(std::string_view name) const {
    if (const ServedModel* model = find(name)) return *model;
    throw StatusError(
        404, ErrorKind::kNotFound, "model_not_found",
        fmt::format("The model {} does not exist; this server has {}", core::quoted(name), names()));
  }

  std::unique_ptr<Exchange> answer_models(const Route& route) const {
    if (route.endpoint == Endpoint::kModel) {
      return json_reply(model_json(open_ai_model_named(route.model)) + "\n");
    }
    std::string body = "{\"object\":\"list\",\"data\":[";
    for (const ServedModel& model : served_) {
      if (&model != &served_.front()) body += ',';
      body += model_json(model);
    }
    return json_reply(body + "]}\n");
  }

  std::string model_json(const ServedModel& model) const {
    std::string out = "{\"id\":";
    append_json_string(out, model.model->name());
    return out + fmt::format(",\"object\":\"model\",\"created\":{},\"owned_by\":\"peregrine\"}}", created_);
  }

  /// Starts to generate.
  static std::unique_ptr<Exchange> start(const ServedModel& model, GenerationPlan plan,
                                         const std::shared_ptr<RequestLog>& log, std::function<void()> wake) {
    return started(model, [&] {
      return start_generation(model, std::move(plan), log->request_id, log, std::move(wake));
    });
  }

  /// Starts to encode.
  static std::unique_ptr<Exchange> start(const ServedModel& model, EncodePlan plan,
                                         const std::shared_ptr<RequestLog>& log, std::function<void()> wake) {
    return started(model, [&] { return start_encoding(model, std::move(plan), log, std::move(wake)); });
  }

  /// What `begin` gives. A model that takes nothing now says so in DJL Serving's terms.
  template <typename Begin>
  static std::unique_ptr<Exchange> started(const ServedModel& model, const Begin& begin) {
    try {
      return begin();
    } catch (const core::Error& error) {
      if (error.kind() != ErrorKind::kOverloaded) throw;
      const auto state = model.model->status().state;
      const bool full = state == serving::ModelState::kReady || state == serving::ModelState::kRestarting;
      throw StatusError(503, error.kind(), full ? "WlmCapacityException" : "ServiceUnavailableException",
                        error.what());
    }
  }

  const ServedModel* find(std::string_view name) const {
    const auto found =
        std::ranges::find_if(served_, [&](const ServedModel& model) { return model.model->name() == name; });
    return found == served_.end() ? nullptr : &*found;
  }

  std::string names() const {
    std::vector<std::string> all;
    for (const serving::Model* model : models_) all.push_back(model->name());
    return all.empty() ? "none" : fmt::format("{}", fmt::join(all, ", "));
  }

  std::vector<serving::Model*> models_;
  std::vector<ServedModel> served_;
  serving::Metrics& metrics_;
  std::int64_t created_;
};

}  // namespace

std::unique_ptr<Service> create_service(serving::Models& models, serving::Metrics& metrics) {
  return create_service(models.all(), metrics);
}

std::unique_ptr<Service> create_service(std::vector<serving::Model*> models, serving::Metrics& metrics) {
  return std::make_unique<ApiService>(std::move(models), metrics);
}

}  // namespace peregrine::api
