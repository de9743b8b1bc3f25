// SPDX-License-Identifier: Apache-2.0
#include "system/stream_client.h"

#include <fmt/format.h>

#include <array>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "core/error.h"
#include "core/json.h"
#include "support/http_client.h"

namespace peregrine::testing {
namespace {

/// Takes the lines of a jsonlines answer as they come.
class Lines {
 public:
  Lines(StreamedText& out, const std::function<void(std::size_t)>& on_token)
      : out_(out), on_token_(on_token) {}

  void add(std::string_view piece) {
    buffer_ += piece;
    for (std::size_t end; (end = buffer_.find('\n')) != std::string::npos; buffer_.erase(0, end + 1)) {
      if (end > 0) read(buffer_.substr(0, end));
    }
  }

 private:
  void read(const std::string& line) {
    if (!out_.finish_reason.empty()) out_.error = "a line after the last: " + line;
    const auto document = core::parse_json(line, "line");
    const core::JsonView view(document, "line");
    if (view.find("error")) {
      out_.error = line;
      return;
    }
    const auto token = view.at("token");
    out_.ids.push_back(token.at("id").as_int(0, 1 << 30));
    out_.text += token.at("text").as_string();
    if (token.at("log_prob").as_number() > 0) out_.error = "a positive log_prob: " + line;
    if (const auto text = view.find("generated_text")) {
      out_.final_text = std::string(text->as_string());
      out_.finish_reason = std::string(view.at("details").at("finish_reason").as_string());
    }
    if (on_token_) on_token_(out_.ids.size());
  }

  StreamedText& out_;
  const std::function<void(std::size_t)>& on_token_;
  std::string buffer_;
};

}  // namespace

std::string prediction_body(const std::string& prompt, int tokens, std::int64_t seed, bool stream) {
  boost::json::object parameters = {
      {"max_new_tokens", tokens}, {"ignore_eos_token", true}, {"details", true}, {"do_sample", seed >= 0}};
  if (seed >= 0) {
    parameters["seed"] = seed;
    parameters["temperature"] = 0.9;
    parameters["top_k"] = 40;
  }
  return boost::json::serialize(
      boost::json::object{{"inputs", prompt}, {"parameters", parameters}, {"stream", stream}});
}

StreamedText stream_prediction(std::uint16_t port, const std::string& body,
                               const std::function<void(std::size_t)>& on_token) {
  StreamedText out;
  Lines lines(out, on_token);
  try {
    const auto response = http_request(port, "POST", "/invocations", body, {}, [&](std::string_view piece) {
      lines.add(piece);
      return true;
    });
    out.status = response.status;
    if (!response.complete) out.error = "the stream was cut";
    if (response.headers.at("content-type") != "application/jsonlines")
      out.error = "not application/jsonlines";
  } catch (const std::exception& error) {
    out.error = error.what();
  }
  return out;
}

std::vector<std::string> mixed_requests(int count, int shortest) {
  constexpr std::array kPrompts = {"ROMEO:", "JULIET:\nO Romeo", "What is",
                                   "First Citizen:\nBefore we proceed"};
  std::vector<std::string> out;
  for (int i = 0; i < count; ++i) {
    const std::string prompt =
        fmt::format("{} {}", kPrompts[static_cast<std::size_t>(i) % kPrompts.size()], i);
    out.push_back(prediction_body(prompt, shortest + 7 * i, i % 2 == 0 ? -1 : 1000 + i, true));
  }
  return out;
}

}  // namespace peregrine::testing
