// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/exchange.h"

namespace peregrine::api {

/// What a path asks for.
enum class Endpoint : std::uint8_t {
  kNone,
  kRoot,  ///< Only OPTIONS.
  kPing,
  kLive,
  kReady,
  kMetrics,
  kInvocations,  ///< Also /predictions/{model} and /models/{model}/invoke, with `model` set.
  kManagement,   ///< Management of models, which is not there yet.
  kCompletions,
  kChat,
  kEmbeddings,
  kRerank,
  kModels,
  kModel,  ///< /v1/models/{model}
};

struct Route {
  Endpoint endpoint = Endpoint::kNone;
  std::string_view pattern = "other";  ///< For metrics and logs; valid for ever.
  std::string model;                   ///< The path's, if it has one.
  std::string version;                 ///< Likewise.
};

/// The route of a percent-decoded path; a slash at its end does not count.
Route find_route(std::string_view path);

/// The methods that an endpoint knows, as in an Allow header; empty: any.
std::string_view allowed_methods(Endpoint endpoint);

/// A parameter of a query string or a pair of X-Amzn-SageMaker-Custom-Attributes.
struct NamedValue {
  std::string name;
  std::string value;
};

/// The parameters of a query string, percent-decoded with '+' as a blank; wrong escapes stay as they are.
std::vector<NamedValue> parse_query(std::string_view query);

/// What a client may say outside of the body: the query first, then headers, then custom attributes.
class RequestProperties {
 public:
  explicit RequestProperties(const HttpRequest& request);
  /// The first value of this lower-case name; valid as long as the request and this.
  std::optional<std::string_view> find(std::string_view name) const;

 private:
  const HttpRequest& request_;
  std::vector<NamedValue> query_;
  std::vector<NamedValue> attributes_;
};

}  // namespace peregrine::api
