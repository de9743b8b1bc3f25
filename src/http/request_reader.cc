// SPDX-License-Identifier: Apache-2.0
#include "http/request_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <optional>
#include <utility>

#include "core/ascii.h"
#include "core/error.h"
#include "http/target.h"

namespace peregrine::http {
namespace {

namespace beast = boost::beast;
using beast::error_code;
using ParserError = beast::http::error;

constexpr std::size_t kMaxHeaders = 256;
/// The longest line (size and extensions of a chunk, or all trailers) in the framing of a chunked body.
constexpr std::size_t kMaxChunkFraming = 16u << 10;

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

/// Whether a request line that Beast refuses for its version is right but for that.
bool has_other_version(std::string_view input) {
  const std::string_view line = input.substr(0, input.find("\r\n"));
  const std::size_t space = line.rfind(' ');
  if (space == std::string_view::npos || std::count(line.begin(), line.end(), ' ') != 2) return false;
  const std::string_view version = line.substr(space + 1);
  const auto digit = [&](std::size_t i) { return version[i] >= '0' && version[i] <= '9'; };
  return version.size() == 8 && version.starts_with("HTTP/") && digit(5) && version[6] == '.' && digit(7);
}

std::string_view describe(const error_code& error) {
  if (error == ParserError::bad_line_ending) return "a line does not end with CR LF";
  if (error == ParserError::bad_method) return "the request line does not begin with a method";
  if (error == ParserError::bad_target) return "the request target has characters that are not allowed";
  if (error == ParserError::bad_version) return "the request line does not end with HTTP/1.1 or HTTP/1.0";
  if (error == ParserError::bad_field) return "a header name has characters that are not allowed";
  if (error == ParserError::bad_value) return "a header value has characters that are not allowed";
  if (error == ParserError::bad_obs_fold) return "a header is folded over lines in a wrong way";
  if (error == ParserError::bad_content_length)
    return "Content-Length is not a number, or stands beside Transfer-Encoding";
  if (error == ParserError::multiple_content_length) return "Content-Length is given twice, differently";
  if (error == ParserError::bad_transfer_encoding)
    return "Transfer-Encoding is given twice, or stands beside Content-Length";
  if (error == ParserError::bad_chunk || error == ParserError::bad_chunk_extension)
    return "the body is not in chunks as Transfer-Encoding says, or its chunks have very long extensions";
  return "it does not follow the rules of HTTP/1.1";
}

}  // namespace

/// Beast does the syntax; what it calls here fills the request.
class RequestReader::Parser : public beast::http::basic_parser<true> {
 public:
  explicit Parser(const ReaderLimits& limits) : max_body_(limits.body_size) {
    header_limit(limits.header_size);
    body_limit(boost::none);  // counted here, so that a declared length too large still has a whole head
  }

  api::HttpRequest request;
  std::string target;
  std::size_t head_bytes = 0;  // taken so far
  bool has_line = false;
  bool has_head = false;
  bool expects_continue = false;
  bool too_many_headers = false;
  bool http11 = true;
  std::optional<Refusal> refusal;  // of what Beast lets pass

 private:
  void refuse(int status, std::string message, error_code& error) {
    refusal = Refusal{status, std::move(message), 0};
    error = ParserError::bad_value;
  }

  void on_request_impl(beast::http::verb, beast::string_view method, beast::string_view text, int version,
                       error_code&) override {
    has_line = true;
    http11 = version >= 11;
    request.method = view(method);
    target = view(text);
  }

  void on_response_impl(int, beast::string_view, int, error_code&) override {}

  void on_field_impl(beast::http::field field, beast::string_view name, beast::string_view value,
                     error_code& error) override {
    if (has_head) return;  // trailers must not pass for headers
    if (request.headers.size() >= kMaxHeaders) {
      too_many_headers = true;
      error = ParserError::header_limit;
      return;
    }
    if (field == beast::http::field::transfer_encoding) {
      // Beast would take a coding that it does not know for no body at all, and the body for the next
      // request.
      if (!http11) return refuse(400, "HTTP/1.0 has no Transfer-Encoding: send Content-Length", error);
      if (!beast::iequals(value, "chunked")) {
        return refuse(
            501, fmt::format("Transfer-Encoding can only be chunked, found {}", core::quoted(view(value))),
            error);
      }
    }
    if (field == beast::http::field::host) {
      if (has_host_) return refuse(400, "The header Host is given twice", error);
      has_host_ = true;
    }
    if (field == beast::http::field::expect && beast::iequals(value, "100-continue")) {
      expects_continue = http11;
    }
    request.headers.emplace_back(core::lower_ascii(view(name)), view(value));
  }

  void on_header_impl(error_code&) override { has_head = true; }
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}

  std::size_t on_body_impl(beast::string_view part, error_code&) override {
    request.body.append(part.data(), part.size());
    return part.size();
  }

  void on_chunk_header_impl(std::uint64_t size, beast::string_view, error_code& error) override {
    if (size <= max_body_ - request.body.size()) return;
    error = ParserError::body_limit;
  }

  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view part, error_code&) override {
    request.body.append(part.data(), part.size());
    return part.size();
  }

  void on_finish_impl(error_code&) override {}

  std::uint64_t max_body_;
  bool has_host_ = false;
};

RequestReader::RequestReader(const ReaderLimits& limits) : limits_(limits) {}
RequestReader::~RequestReader() = default;

void RequestReader::reset() {
  parser_.reset();
  refusal_ = {};
}

RequestReader::Progress RequestReader::refuse(int status, std::string message) {
  refusal_ = Refusal{status, std::move(message), 0};
  return Progress::kRefused;
}

/// `input` is what was not taken yet: Beast takes nothing of headers that come in pieces before it sees their
/// end.
RequestReader::Progress RequestReader::refuse_header_size(std::string_view input) {
  if (parser_->too_many_headers) {
    return refuse(431, fmt::format("A request has at most {} headers", kMaxHeaders));
  }
  const bool has_line = parser_->has_line || input.find("\r\n") != std::string_view::npos;
  return refuse(
      has_line ? 431 : 414,
      fmt::format("{} larger than the limit of {} bytes",
                  has_line ? "Request line and headers are" : "The request line is", limits_.header_size));
}

RequestReader::Progress RequestReader::read(std::string_view& input) {
  if (!parser_) {
    // An empty line before a request is forgiven (RFC 9112 section 2.2).
    while (input.starts_with("\r\n")) input.remove_prefix(2);
    if (input.empty() || input == "\r") return Progress::kNeedMore;
    parser_ = std::make_unique<Parser>(limits_);
  }
  while (!input.empty()) {
    const bool had_head = parser_->has_head;
    const std::string_view before = input;
    error_code error;
    const std::size_t taken = parser_->put(boost::asio::const_buffer(input.data(), input.size()), error);
    input.remove_prefix(taken);
    const bool wants_more = error == ParserError::need_more;
    if (!had_head && (!error || wants_more)) {
      // Beast's own limit starts anew with every piece in which headers arrive.
      parser_->head_bytes += taken;
      const std::size_t seen = parser_->head_bytes + (parser_->has_head ? 0 : input.size());
      if (seen > limits_.header_size) error = ParserError::header_limit;
    }
    if (wants_more && parser_->has_head && input.size() > kMaxChunkFraming) error = ParserError::bad_chunk;
    if (error == ParserError::need_more) return Progress::kNeedMore;
    if (error) return refuse_error(error, before);
    if (!had_head && parser_->has_head) {
      const Progress progress = finish_head();
      if (progress == Progress::kRefused || !parser_->is_done()) return progress;
    }
    if (parser_->is_done()) return Progress::kWhole;
  }
  return Progress::kNeedMore;
}

/// `input` is what the parser was given when it failed.
RequestReader::Progress RequestReader::refuse_error(const error_code& error, std::string_view input) {
  if (parser_->refusal) {
    refusal_ = *std::move(parser_->refusal);
    return Progress::kRefused;
  }
  if (error == ParserError::header_limit) return refuse_header_size(input);
  if (error == ParserError::body_limit) {
    return refuse(413, fmt::format("The body is larger than the limit of {} bytes", limits_.body_size));
  }
  if (error == ParserError::bad_version && has_other_version(input)) {
    return refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here");
  }
  return refuse(400, fmt::format("Not an HTTP request: {}", describe(error)));
}

RequestReader::Progress RequestReader::finish_head() {
  api::HttpRequest& request = parser_->request;
  std::string problem;
  if (!split_target(request.method, parser_->target, request.path, request.query, problem)) {
    return refuse(400, std::move(problem));
  }
  const auto length = parser_->content_length();
  if (length && *length > limits_.body_size) {
    refuse(413, fmt::format("The body is larger than the limit of {} bytes: Content-Length is {}",
                            limits_.body_size, *length));
    if (!parser_->expects_continue) refusal_.declared_length = *length;
    return Progress::kRefused;
  }
  return Progress::kHead;
}

bool RequestReader::has_head() const { return parser_ && parser_->has_head; }
bool RequestReader::expects_continue() const { return parser_ && parser_->expects_continue; }
std::size_t RequestReader::body_size() const { return parser_ ? parser_->request.body.size() : 0; }

AnswerForm RequestReader::form() const {
  if (!parser_ || !parser_->has_line) return {.keep_alive = false};
  return {.http11 = parser_->http11,
          .head_only = parser_->request.method == "HEAD",
          .keep_alive = parser_->has_head && parser_->keep_alive()};
}

api::HttpRequest RequestReader::take() { return std::move(parser_->request); }

}  // namespace peregrine::http
