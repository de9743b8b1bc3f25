// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::cli {

/// A load on a server: `clients` of them, each sending its next request when its last one has ended. Prompts
/// are random token ids, and lengths are drawn from ranges with both ends included; all of it follows from
/// the seed.
struct LoadPlan {
  std::string url;    ///< Base URL of a server with the OpenAI interface, without "/v1".
  std::string model;  ///< Name in each request; empty: the first that the server lists.
  std::int32_t clients = 8;
  std::int32_t requests = 24;
  std::int32_t warmup = 2;  ///< Requests before, which do not count.
  std::uint32_t seed = 7;
  std::array<std::int32_t, 2> prompt_tokens = {32, 256};
  std::array<std::int32_t, 2> output_tokens = {16, 128};
  std::array<std::int32_t, 2> token_ids = {300, 50000};
};

struct LoadRequest {
  std::vector<std::int32_t> prompt;
  std::int32_t new_tokens = 0;
};

/// The requests of a plan, in the order in which they are sent: the very same as Python's random.Random(seed)
/// gives, drawing for each request its prompt's length, its output's length and then the ids.
std::vector<LoadRequest> load_requests(const LoadPlan& plan, std::uint32_t seed, std::int32_t count);

/// "LOW:HIGH", or one number that is both. Throws Error(kInvalidArgument) that names `option` where it is not
/// that, with 1 <= LOW <= HIGH <= 2^24.
std::array<std::int32_t, 2> parse_range(std::string_view text, std::string_view option);

/// Runs the load, and prints what the clients saw: tokens a second, times to the first token, gaps between
/// two pieces of text, time per output token. Throws Error where the server cannot be reached at all; errors
/// of single requests are counted and shown, and make the command fail after the report.
void bench_load(const LoadPlan& plan, bool json);

}  // namespace peregrine::cli
