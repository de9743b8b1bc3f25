// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace peregrine::testing {

/// What a streamed request to /invocations gave.
struct StreamedText {
  int status = 0;
  std::string text;           ///< Of the tokens, joined.
  std::string final_text;     ///< generated_text of the last line.
  std::string finish_reason;  ///< details.finish_reason of the last line.
  std::vector<std::int64_t> ids;
  std::string error;  ///< What was wrong with the stream; empty where nothing was.

  bool operator==(const StreamedText&) const = default;
};

/// Body of a prediction request. Greedy where `seed` < 0, otherwise sampled with temperature 0.9 and
/// top_k 40. End tokens are ignored, so that it has `tokens` tokens.
std::string prediction_body(const std::string& prompt, int tokens, std::int64_t seed, bool stream);

/// Streams a request, and checks every line's shape. `on_token` is called after each token with how many
/// there are so far.
StreamedText stream_prediction(std::uint16_t port, const std::string& body,
                               const std::function<void(std::size_t)>& on_token = {});

/// `count` requests of different prompts, lengths from `shortest` on, and every other one greedy.
std::vector<std::string> mixed_requests(int count, int shortest);

}  // namespace peregrine::testing
