// SPDX-License-Identifier: Apache-2.0
// What clients send that they should not: every field of every dialect wrong in every way, and connections
// that misbehave. The server answers the next request, and keeps neither descriptors nor memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "support/http_client.h"
#include "support/server_process.h"
#include "system/stream_client.h"

namespace peregrine {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::http_request;
using testing::HttpResponse;
using testing::RawConnection;
using testing::ServerProcess;

const std::string kExample = std::string(PEREGRINE_SOURCE_DIR) + "/examples/shakespeare";

/// A place in a request body where a value is put: "%" is the place.
struct Field {
  std::string name;  ///< What an error must name.
  std::string body;
};

struct Dialect {
  std::string path;
  std::vector<Field> fields;
};

Field parameter(const std::string& name) {
  return {name, R"({"inputs":"ROMEO:","parameters":{"max_length":6,")" + name + R"(":%}})"};
}

Dialect predictions() {
  Dialect out{"/invocations",
              {{"inputs", R"({"inputs":%,"parameters":{"max_new_tokens":1}})"},
               {"parameters", R"({"inputs":"ROMEO:","parameters":%})"},
               {"stream", R"({"inputs":"ROMEO:","parameters":{"max_new_tokens":1},"stream":%})"},
               {"max_new_tokens", R"({"inputs":"ROMEO:","parameters":{"max_new_tokens":%}})"}}};
  for (const char* name : {"do_sample",
                           "temperature",
                           "top_k",
                           "top_p",
                           "typical_p",
                           "min_p",
                           "repetition_penalty",
                           "presence_penalty",
                           "frequency_penalty",
                           "n",
                           "best_of",
                           "num_beams",
                           "seed",
                           "stop_sequences",
                           "stop",
                           "stop_token_ids",
                           "include_stop_str_in_output",
                           "ignore_eos_token",
                           "skip_special_tokens",
                           "truncate",
                           "return_full_text",
                           "details",
                           "decoder_input_details",
                           "top_n_tokens",
                           "min_length",
                           "min_new_tokens",
                           "no_repeat_ngram_size",
                           "bad_words_ids",
                           "suppress_tokens",
                           "eos_token_id",
                           "output_formatter"}) {
    out.fields.push_back(parameter(name));
  }
  return out;
}

Dialect completions() {
  Dialect out{"/v1/completions",
              {{"prompt", R"({"prompt":%,"max_tokens":1})"},
               {"max_tokens", R"({"prompt":"ROMEO:","max_tokens":%})"}}};
  for (const char* name :
       {"model", "temperature", "top_p", "n", "stream", "logprobs", "echo", "stop", "presence_penalty",
        "frequency_penalty", "best_of", "seed", "stream_options", "suffix", "logit_bias"}) {
    out.fields.push_back({name, R"({"prompt":"ROMEO:","max_tokens":1,")" + std::string(name) + R"(":%})"});
  }
  return out;
}

Dialect chat() {
  const std::string hello = R"("messages":[{"role":"user","content":"Hello"}],"max_tokens":1,)";
  Dialect out{"/v1/chat/completions",
              {{"messages", R"({"messages":%,"max_tokens":1})"},
               {"messages", R"({"messages":[%],"max_tokens":1})"},
               {"role", R"({"messages":[{"role":%,"content":"x"}],"max_tokens":1})"},
               {"content", R"({"messages":[{"role":"user","content":%}],"max_tokens":1})"},
               {"content", R"({"messages":[{"role":"user","content":[%]}],"max_tokens":1})"}}};
  for (const char* name : {"temperature", "top_p", "n", "stream", "logprobs", "top_logprobs", "stop", "seed",
                           "presence_penalty", "frequency_penalty", "response_format", "tools", "tool_choice",
                           "stream_options", "logit_bias", "max_completion_tokens"}) {
    out.fields.push_back({name, "{" + hello + "\"" + name + "\":%}"});
  }
  return out;
}

struct Mutation {
  std::string name;
  std::string value;
  bool is_json = true;  ///< Otherwise the whole body is none, and no field can be named.
};

std::vector<Mutation> mutations() {
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += "[";
  for (int i = 0; i < 200; ++i) deep += "]";
  return {{"null", "null"},
          {"text", R"("abc")"},
          {"empty text", R"("")"},
          {"nul in text", R"("\u0000")"},
          {"integer", "7"},
          {"fraction", "0.37"},
          {"true", "true"},
          {"negative", "-3"},
          {"zero", "0"},
          {"huge integer", "123456789012345678901234567890"},
          {"large integer", "9223372036854775807"},
          {"huge number", "1e308"},
          {"list", "[]"},
          {"list of wrong things", R"([null, {"a": []}, -1])"},
          {"list of texts", R"(["a", ""])"},
          {"object", "{}"},
          {"object with members", R"({"a": 1, "type": "zzz"})"},
          {"infinite number", "1e999", false},
          {"not a number", "NaN", false},
          {"nothing", "", false},
          {"deep nesting", deep, false}};
}

/// `body` with the value in its place. (The value of a place is the only '%' in it.)
std::string with(const Field& field, const Mutation& mutation) {
  std::string body = field.body;
  return body.replace(body.find('%'), 1, mutation.value);
}

TEST(ServeAbuse, MalformedRequests) {
  ServerProcess server({kExample});
  int refused = 0;
  int accepted = 0;
  for (const Dialect& dialect : {predictions(), completions(), chat()}) {
    for (const Field& field : dialect.fields) {
      for (const Mutation& mutation : mutations()) {
        const std::string body = with(field, mutation);
        const HttpResponse response = http_request(server.port(), "POST", dialect.path, body);
        const std::string what =
            dialect.path + " " + body.substr(0, 200) + " -> " + response.body.substr(0, 300);
        ASSERT_TRUE(response.complete) << what;
        if (response.status == 200) {
          ++accepted;
          EXPECT_TRUE(mutation.is_json || mutation.value.empty()) << what;  // [] with nothing in it is a list
          continue;
        }
        ++refused;
        EXPECT_GE(response.status, 400) << what;
        EXPECT_LT(response.status, 500) << what;
        if (mutation.is_json) {
          EXPECT_THAT(response.body, HasSubstr(field.name)) << what;
          const bool required = field.name == "inputs" || field.name == "prompt" ||
                                field.name == "messages" || field.name == "role" || field.name == "content";
          EXPECT_TRUE(mutation.name != "null" || required) << what;
        }
      }
    }
  }
  EXPECT_GT(refused, 700);
  EXPECT_GT(accepted, 150);
  EXPECT_TRUE(server.running());
  EXPECT_EQ(http_request(server.port(), "POST", "/invocations",
                         R"({"inputs":"x","parameters":{"max_new_tokens":1}})")
                .status,
            200);
  EXPECT_EQ(server.host(), server.host());
}

TEST(ServeAbuse, BodiesThatAreNoRequests) {
  ServerProcess server({kExample});
  for (const std::string& path :
       {std::string("/invocations"), std::string("/v1/completions"), std::string("/v1/chat/completions")}) {
    for (const std::string& body :
         {std::string(""), std::string("{"), std::string("[]"), std::string("7"), std::string("null"),
          std::string("\"text\""), std::string("{}"), std::string("{\"inputs\": \"\xff\xfe\"}"),
          std::string(100'000, '['), std::string(100, '\0'), std::string("{\"model\": \"shakespeare\"}")}) {
      const auto response = http_request(server.port(), "POST", path, body);
      EXPECT_GE(response.status, 400) << path << " " << body.substr(0, 50);
      EXPECT_LT(response.status, 500) << path << " " << body.substr(0, 50) << response.body;
      EXPECT_FALSE(response.body.empty());
    }
  }
  // Too long for the model, in tokens and in bytes.
  std::string words;
  for (int i = 0; i < 3000; ++i) words += "thou ";
  const auto tokens = http_request(server.port(), "POST", "/invocations", "{\"inputs\": \"" + words + "\"}");
  EXPECT_GE(tokens.status, 400);
  EXPECT_LT(tokens.status, 500);
  EXPECT_THAT(tokens.body, HasSubstr("1024"));
  const auto bytes = http_request(server.port(), "POST", "/invocations",
                                  "{\"inputs\": \"" + std::string(20 << 20, 'a') + "\"}");
  EXPECT_GE(bytes.status, 400);
  EXPECT_LT(bytes.status, 500);
}

/// Waits until the server is as it was: descriptors back to `descriptors`, nothing in the engine.
void expect_quiet(const ServerProcess& server, std::size_t descriptors) {
  std::string metrics;
  for (int i = 0; i < 3000; ++i) {
    metrics = http_request(server.port(), "GET", "/metrics").body;
    if (server.descriptors() <= descriptors &&
        metrics.find("peregrine_engine_running_sequences{model=\"shakespeare\"} 0\n") != std::string::npos) {
      return;
    }
    std::this_thread::sleep_for(20ms);
  }
  ADD_FAILURE() << server.descriptors() << " descriptors, " << descriptors << " before\n" << metrics;
}

std::string post(const std::string& body) {
  return "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
         "application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// One client that misbehaves in the way that `kind` says.
void misbehave(std::uint16_t port, unsigned kind, std::mt19937& random) {
  const std::string stream = post(testing::prediction_body("ROMEO:", 200, 7, true));
  const std::string whole = post(testing::prediction_body("ROMEO:", 200, 7, false));
  RawConnection connection(port);
  switch (kind % 9) {
    case 0:  // Part of a head.
      connection.send(stream.substr(0, 1 + random() % 60));
      return;
    case 1:  // Part of a body.
      connection.send(stream.substr(0, stream.size() - 1 - random() % 20));
      return;
    case 2:  // Gone before the answer.
      connection.send(whole);
      return;
    case 3:  // Gone in the middle of a stream.
      connection.send(stream);
      connection.receive(1 + random() % 500);
      return;
    case 4:  // Half closed, then silent.
      connection.send(stream);
      connection.finish_sending();
      connection.receive(100);
      return;
    case 5:  // Many requests at once, and then gone.
      for (int i = 0; i < 20; ++i) connection.send(i % 2 == 0 ? stream : whole);
      connection.receive(100);
      return;
    case 6: {  // Noise.
      std::string noise(1 + random() % 3000, '\0');
      for (char& c : noise) c = static_cast<char>(random());
      connection.send(noise);
      connection.receive(100);
      return;
    }
    case 7:  // A body of no declared end.
      connection.send(
          "POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{\"inputs\"");
      return;
    default:  // A reset.
      connection.send(stream);
      connection.receive(1);
      const linger abrupt = {1, 0};
      ::setsockopt(connection.fd(), SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt));
      return;
  }
}

TEST(ServeAbuse, ConnectionsThatMisbehaveLeakNothing) {
  ServerProcess server({kExample});
  const std::string body = testing::prediction_body("ROMEO:", 300, 3, true);
  const auto expected = testing::stream_prediction(server.port(), body);
  ASSERT_EQ(expected.error, "");
  const auto round = [&](unsigned seed) {
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(seed * 100 + t);
        for (unsigned i = 0; i < 45; ++i) misbehave(server.port(), t + i, random);
      });
    }
    // An orderly client among them is not disturbed.
    EXPECT_EQ(testing::stream_prediction(server.port(), body), expected);
    for (std::thread& thread : threads) thread.join();
  };
  const std::size_t descriptors = server.descriptors();
  round(1);
  expect_quiet(server, descriptors);
  const long before = server.resident_kilobytes();
  for (unsigned i = 2; i < 6; ++i) round(i);
  expect_quiet(server, descriptors);
  EXPECT_LT(server.resident_kilobytes(), before + 16 * 1024);
  EXPECT_EQ(testing::stream_prediction(server.port(), body), expected);
  EXPECT_EQ(server.stop(SIGTERM), 0);
}

}  // namespace
}  // namespace peregrine
