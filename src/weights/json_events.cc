// SPDX-License-Identifier: Apache-2.0
#include "weights/json_events.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <string>

#include "core/error.h"

namespace peregrine::weights {
namespace {

constexpr std::size_t kMaxDepth = 64;

/// The handler that boost::json::basic_parser calls: it puts strings that come in parts together.
class Handler {
 public:
  using Code = boost::json::error_code;
  using Text = boost::json::string_view;

  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  explicit Handler(JsonSink& sink) : sink_(&sink) {}

  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_object_begin(Code&) {
    sink_->begin_object();
    return true;
  }
  bool on_object_end(std::size_t, Code&) {
    sink_->end_object();
    return true;
  }
  bool on_array_begin(Code&) {
    sink_->begin_array();
    return true;
  }
  bool on_array_end(std::size_t, Code&) {
    sink_->end_array();
    return true;
  }
  bool on_key_part(Text text, std::size_t, Code&) { return collect(text); }
  bool on_key(Text text, std::size_t, Code&) {
    collect(text);
    sink_->key(buffer_);
    buffer_.clear();
    return true;
  }
  bool on_string_part(Text text, std::size_t, Code&) { return collect(text); }
  bool on_string(Text text, std::size_t, Code&) {
    collect(text);
    sink_->string(buffer_);
    buffer_.clear();
    return true;
  }
  bool on_number_part(Text, Code&) { return true; }
  bool on_int64(std::int64_t number, Text, Code&) {
    if (number < 0) {
      sink_->other(fmt::format("the number {}", number));
    } else {
      sink_->integer(static_cast<std::uint64_t>(number));
    }
    return true;
  }
  bool on_uint64(std::uint64_t number, Text, Code&) {
    sink_->integer(number);
    return true;
  }
  bool on_double(double number, Text, Code&) {
    sink_->other(fmt::format("the number {}", number));
    return true;
  }
  bool on_bool(bool value, Code&) {
    sink_->other(value ? "true" : "false");
    return true;
  }
  bool on_null(Code&) {
    sink_->other("null");
    return true;
  }
  bool on_comment_part(Text, Code&) { return true; }
  bool on_comment(Text, Code&) { return true; }

 private:
  bool collect(Text text) {
    buffer_.append(text.data(), text.size());
    return true;
  }

  JsonSink* sink_;
  std::string buffer_;
};

}  // namespace

void read_json(std::string_view text, std::string_view where, JsonSink& sink) {
  boost::json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::json::basic_parser<Handler> parser(options, sink);
  boost::json::error_code error;
  const std::size_t read = parser.write_some(false, text.data(), text.size(), error);
  if (!error && read < text.size()) error = boost::json::error::extra_data;
  if (error) {
    core::fail(core::ErrorKind::kInvalidArgument, "{}: not valid JSON at byte {}: {}", where, read,
               error.message());
  }
}

}  // namespace peregrine::weights
