// SPDX-License-Identifier: Apache-2.0
#include "api/router.h"

#include <algorithm>
#include <array>

#include "core/ascii.h"

namespace peregrine::api {
namespace {

struct FixedRoute {
  std::string_view path;
  Endpoint endpoint;
};

constexpr std::array<FixedRoute, 13> kFixedRoutes = {{
    {"/ping", Endpoint::kPing},
    {"/livez", Endpoint::kLive},
    {"/readyz", Endpoint::kReady},
    {"/metrics", Endpoint::kMetrics},
    {"/server/metrics", Endpoint::kMetrics},
    {"/invocations", Endpoint::kInvocations},
    {"/v1/completions", Endpoint::kCompletions},
    {"/v1/chat/completions", Endpoint::kChat},
    {"/v1/embeddings", Endpoint::kEmbeddings},
    {"/rerank", Endpoint::kRerank},
    {"/v1/rerank", Endpoint::kRerank},
    {"/v2/rerank", Endpoint::kRerank},
    {"/v1/models", Endpoint::kModels},
}};

bool take_prefix(std::string_view& path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return false;
  path.remove_prefix(prefix.size());
  return true;
}

/// /predictions/{model}[/{version}]
Route predictions_route(std::string_view rest) {
  const std::size_t slash = rest.find('/');
  Route route{Endpoint::kInvocations, "/predictions/{model}", std::string(rest.substr(0, slash)), {}};
  if (slash != std::string_view::npos) route.version = rest.substr(slash + 1);
  return route;
}

/// /models/{model}/invoke, or what belongs to the management of models.
Route models_route(std::string_view rest) {
  constexpr std::string_view kInvoke = "/invoke";
  if (rest.size() > kInvoke.size() && rest.ends_with(kInvoke)) {
    rest.remove_suffix(kInvoke.size());
    return {Endpoint::kInvocations, "/models/{model}/invoke", std::string(rest), {}};
  }
  return {Endpoint::kManagement, "/models/{model}", std::string(rest), {}};
}

std::string decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      out += ' ';
    } else if (text[i] == '%' && i + 2 < text.size() && core::hex_digit(text[i + 1]) >= 0 &&
               core::hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(core::hex_digit(text[i + 1]) * 16 + core::hex_digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Splits "a=b;c=d"; a part without '=' has an empty value.
template <typename Add>
void for_each_pair(std::string_view text, char separator, const Add& add) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    const std::string_view pair = text.substr(0, end);
    const std::size_t equals = std::min(pair.find('='), pair.size());
    if (equals > 0) add(pair.substr(0, equals), pair.substr(std::min(equals + 1, pair.size())));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

const NamedValue* find_in(const std::vector<NamedValue>& values, std::string_view name) {
  const auto found = std::ranges::find(values, name, &NamedValue::name);
  return found == values.end() ? nullptr : &*found;
}

}  // namespace

Route find_route(std::string_view path) {
  if (path == "/") return {Endpoint::kRoot, "/", {}, {}};
  if (path.ends_with('/')) path.remove_suffix(1);
  for (const FixedRoute& fixed : kFixedRoutes) {
    if (fixed.path == path) return {fixed.endpoint, fixed.path, {}, {}};
  }
  if (take_prefix(path, "/predictions/")) return predictions_route(path);
  if (take_prefix(path, "/models/")) return models_route(path);
  if (take_prefix(path, "/v1/models/"))
    return {Endpoint::kModel, "/v1/models/{model}", std::string(path), {}};
  return {};
}

std::string_view allowed_methods(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::kNone:
    case Endpoint::kInvocations:
    case Endpoint::kManagement:
      return "";
    case Endpoint::kRoot:
      return "OPTIONS";
    case Endpoint::kPing:
    case Endpoint::kLive:
    case Endpoint::kReady:
    case Endpoint::kMetrics:
    case Endpoint::kModels:
    case Endpoint::kModel:
      return "GET, HEAD";
    case Endpoint::kCompletions:
    case Endpoint::kChat:
    case Endpoint::kEmbeddings:
    case Endpoint::kRerank:
      return "POST";
  }
  return "";
}

std::vector<NamedValue> parse_query(std::string_view query) {
  std::vector<NamedValue> values;
  for_each_pair(query, '&', [&](std::string_view name, std::string_view value) {
    values.push_back({decoded(name), decoded(value)});
  });
  return values;
}

RequestProperties::RequestProperties(const HttpRequest& request)
    : request_(request), query_(parse_query(request.query)) {
  const auto attributes = request.header("x-amzn-sagemaker-custom-attributes");
  for_each_pair(attributes.value_or(""), ';', [&](std::string_view name, std::string_view value) {
    attributes_.push_back({core::lower_ascii(trimmed(name)), std::string(trimmed(value))});
  });
}

std::optional<std::string_view> RequestProperties::find(std::string_view name) const {
  if (const NamedValue* found = find_in(query_, name)) return found->value;
  if (const auto header = request_.header(name)) return header;
  if (const NamedValue* found = find_in(attributes_, name)) return found->value;
  return std::nullopt;
}

}  // namespace peregrine::api
