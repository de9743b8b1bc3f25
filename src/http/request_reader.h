// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "api/exchange.h"
#include "http/response_writer.h"

namespace peregrine::http {

struct ReaderLimits {
  std::uint32_t header_size = 0;  ///< Bytes of request line and headers.
  std::uint64_t body_size = 0;    ///< Bytes of body, chunk framing not counted.
};

/// Why bytes are not a request, for the client.
struct Refusal {
  int status = 400;
  std::string message;
  /// With 413: the length that the client declared. 0 where it declared none, or where it may not send the
  /// body at all because it waits for 100 Continue: the end of such a request cannot be found.
  std::uint64_t declared_length = 0;
};

/// Makes a request of bytes as they come, in whatever pieces. Does no input or output. What a body takes in
/// memory grows with what has arrived, never with what was declared.
class RequestReader {
 public:
  enum class Progress : std::uint8_t {
    kNeedMore,  ///< Everything complete was taken; what is left of the input must be given again, with more.
    kHead,      ///< The headers are complete, a body follows. Returned once.
    kWhole,     ///< The request is complete: take it. What is left of the input belongs to the next.
    kRefused,   ///< Not a request: see refusal(). The rest of the input has no meaning.
  };

  explicit RequestReader(const ReaderLimits& limits);
  ~RequestReader();

  /// Takes bytes from the front of `input`. After kWhole or kRefused, only after reset().
  Progress read(std::string_view& input);

  /// Whether a byte of a request has been taken or seen.
  bool begun() const { return parser_ != nullptr; }
  /// Whether the request's headers are complete.
  bool has_head() const;
  /// Whether the client waits for 100 Continue before it sends the body. After kHead.
  bool expects_continue() const;
  /// Bytes of body that are held.
  std::size_t body_size() const;
  /// What the answer's form depends on. As far as it is known: a refused request may have no method yet.
  AnswerForm form() const;
  /// After kWhole.
  api::HttpRequest take();
  /// After kRefused.
  const Refusal& refusal() const { return refusal_; }
  /// Ready for the next request.
  void reset();

 private:
  class Parser;

  Progress refuse(int status, std::string message);
  Progress refuse_error(const boost::system::error_code& error, std::string_view input);
  Progress refuse_header_size(std::string_view input);
  Progress finish_head();

  ReaderLimits limits_;
  std::unique_ptr<Parser> parser_;
  Refusal refusal_;
};

}  // namespace peregrine::http
