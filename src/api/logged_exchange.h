// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "api/exchange.h"
#include "api/generation_exchange.h"
#include "serving/metrics.h"

namespace peregrine::api {

/// The headers of every answer (specification 1.2).
void add_common_headers(Head& head, const std::string& request_id);

/// What the access log says about an exchange beside its times.
struct ExchangeInfo {
  std::string method;
  std::string_view route;                       ///< A pattern; valid for ever.
  bool quiet = false;                           ///< Health checks and the like: logged at debug only.
  std::chrono::steady_clock::time_point begin;  ///< When the request was there whole.
};

/// An answer that is ready at once.
std::unique_ptr<Exchange> make_reply(Head head, std::string body);

/// `exchange` with the common headers, one line in the log and one count in the metrics at its end: status
/// 499 where it is destroyed before (the client went away). `log` is what the exchange keeps up to date.
std::unique_ptr<Exchange> log_exchange(std::unique_ptr<Exchange> exchange, ExchangeInfo info,
                                       std::shared_ptr<const RequestLog> log, serving::Metrics& metrics);

}  // namespace peregrine::api
