// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "api/exchange.h"

namespace peregrine::http {

/// What the form of an answer depends on, of its request.
struct AnswerForm {
  bool http11 = true;      ///< Otherwise HTTP/1.0, which knows no chunks.
  bool head_only = false;  ///< HEAD: the head as for GET, and no body.
  bool keep_alive = true;  ///< The client may send another request on the connection.
};

/// Puts one answer into bytes, appended to `out`. An answer of status 400 or above is the last of its
/// connection unless told otherwise. Whatever the service put into headers, no line of its making enters the
/// head: control characters are dropped, headers without a proper name and those that say where the answer
/// ends as well.
class ResponseWriter {
 public:
  explicit ResponseWriter(AnswerForm form = {}) : form_(form) {}

  /// This answer is the last of its connection. Before the head is written.
  void make_last() { form_.keep_alive = false; }
  /// An error after which the connection goes on.
  void survive_error() { survives_error_ = true; }

  /// An answer with a length.
  void write_whole(const api::Head& head, std::string_view body, std::string& out);
  /// The beginning of one whose length is not known.
  void begin(const api::Head& head, std::string& out);
  /// The next part of it. An empty one adds nothing (an empty chunk would be the end).
  void write_part(std::string_view part, std::string& out);
  /// Its end.
  void end(std::string& out);

  /// Whether the head has been written.
  bool begun() const { return begun_; }
  /// Whether the client is sent a body at all. After the head was written.
  bool has_body() const { return has_body_; }
  /// Whether the connection goes on after this answer. After the head was written.
  bool keeps_alive() const { return form_.keep_alive; }

 private:
  enum class Framing : std::uint8_t { kLength, kChunked, kUntilClose };

  void write_head(const api::Head& head, Framing framing, std::uint64_t length, std::string& out);

  AnswerForm form_;
  Framing framing_ = Framing::kLength;
  bool survives_error_ = false;
  bool begun_ = false;
  bool has_body_ = true;
};

}  // namespace peregrine::http
