// SPDX-License-Identifier: Apache-2.0
#include "http/response_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/status.hpp>
#include <ctime>
#include <iterator>

namespace peregrine::http {
namespace {

/// The time as RFC 9110 section 5.6.7 has it, in English whatever the locale.
void append_date(std::string& out) {
  static constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                               "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  fmt::format_to(std::back_inserter(out), "Date: {}, {:02} {} {} {:02}:{:02}:{:02} GMT\r\n",
                 kDays[static_cast<std::size_t>(utc.tm_wday)], utc.tm_mday,
                 kMonths[static_cast<std::size_t>(utc.tm_mon)], utc.tm_year + 1900, utc.tm_hour, utc.tm_min,
                 utc.tm_sec);
}

bool is_name(std::string_view name) {
  constexpr std::string_view kTokenCharacters =
      "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return !name.empty() && name.find_first_not_of(kTokenCharacters) == std::string_view::npos;
}

/// Headers that say where an answer ends are this room's alone.
bool is_framing(std::string_view name) {
  using boost::beast::iequals;
  return iequals(name, "Content-Length") || iequals(name, "Transfer-Encoding") ||
         iequals(name, "Connection") || iequals(name, "Keep-Alive") || iequals(name, "Upgrade") ||
         iequals(name, "Trailer");
}

void append_header(std::string_view name, std::string_view value, std::string& out) {
  out.append(name).append(": ");
  std::copy_if(value.begin(), value.end(), std::back_inserter(out),
               [](char c) { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f); });
  out.append("\r\n");
}

}  // namespace

void ResponseWriter::write_head(const api::Head& head, Framing framing, std::uint64_t length,
                                std::string& out) {
  const int status = head.status >= 200 && head.status <= 599 ? head.status : 500;
  const bool bodyless_status = status == 204 || status == 304;
  if (status >= 400 && !survives_error_) form_.keep_alive = false;
  if (framing == Framing::kChunked && !form_.http11) framing = Framing::kUntilClose;
  if (framing == Framing::kUntilClose && !bodyless_status) form_.keep_alive = false;
  framing_ = framing;
  has_body_ = !form_.head_only && !bodyless_status;
  begun_ = true;

  const auto reason =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(static_cast<unsigned>(status)));
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\n", status,
                 std::string_view(reason.data(), reason.size()));
  append_date(out);
  out.append("Server: peregrine\r\n");
  if (!head.content_type.empty()) append_header("Content-Type", head.content_type, out);
  for (const auto& [name, value] : head.headers) {
    if (is_name(name) && !is_framing(name)) append_header(name, value, out);
  }
  if (!bodyless_status) {
    if (framing == Framing::kLength)
      fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", length);
    if (framing == Framing::kChunked) out.append("Transfer-Encoding: chunked\r\n");
  }
  if (!form_.keep_alive) {
    out.append("Connection: close\r\n");
  } else if (!form_.http11) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append("\r\n");
}

void ResponseWriter::write_whole(const api::Head& head, std::string_view body, std::string& out) {
  write_head(head, Framing::kLength, body.size(), out);
  if (has_body_) out.append(body);
}

void ResponseWriter::begin(const api::Head& head, std::string& out) {
  write_head(head, Framing::kChunked, 0, out);
}

void ResponseWriter::write_part(std::string_view part, std::string& out) {
  if (part.empty() || !has_body_) return;
  if (framing_ == Framing::kChunked) fmt::format_to(std::back_inserter(out), "{:x}\r\n", part.size());
  out.append(part);
  if (framing_ == Framing::kChunked) out.append("\r\n");
}

void ResponseWriter::end(std::string& out) {
  if (has_body_ && framing_ == Framing::kChunked) out.append("0\r\n\r\n");
}

}  // namespace peregrine::http
