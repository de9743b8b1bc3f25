// SPDX-License-Identifier: Apache-2.0
// The server as a newcomer starts it: answers, interfaces, several models, failures to start.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/files.h"
#include "core/json.h"
#include "support/http_client.h"
#include "support/server_process.h"
#include "system/run_program.h"
#include "system/stream_client.h"

namespace peregrine {
namespace {

using core::JsonView;
using ::testing::HasSubstr;
using testing::http_request;
using testing::HttpResponse;
using testing::ServerProcess;

const std::string kSource = PEREGRINE_SOURCE_DIR;
const std::string kExample = kSource + "/examples/shakespeare";

boost::json::value json_of(const HttpResponse& response) {
  EXPECT_EQ(response.status, 200) << response.body;
  return core::parse_json(response.body, "answer");
}

TEST(Serve, RecordedTextsWholeAndStreamed) {
  PEREGRINE_REQUIRE_TEST_DATA("example-model/expected.json");
  const auto document = core::parse_json(
      core::read_file(testing::test_data() / "example-model/expected.json", 1 << 24), "expected.json");
  ServerProcess server({kExample});
  int checked = 0;
  for (const JsonView& item : JsonView(document, "expected.json").at("greedy").items()) {
    const std::string prompt(item.at("prompt").as_string());
    const auto expected_logprobs = item.at("logprobs").items();
    const auto answer = json_of(
        http_request(server.port(), "POST", "/invocations", testing::prediction_body(prompt, 64, -1, false)));
    const JsonView view(answer, "answer");
    EXPECT_EQ(view.at("generated_text").as_string(), item.at("text").as_string());
    EXPECT_EQ(view.at("details").at("finish_reason").as_string(), "length");
    EXPECT_EQ(view.at("details").at("generated_tokens").as_int(0, 1000), 64);
    const auto tokens = view.at("details").at("tokens").items();
    ASSERT_EQ(tokens.size(), expected_logprobs.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(tokens[i].at("id").as_int(0, 1 << 20), item.at("new_ids").items()[i].as_int(0, 1 << 20));
      EXPECT_NEAR(tokens[i].at("log_prob").as_number(), expected_logprobs[i].as_number(), 1e-4);
    }
    const auto streamed =
        testing::stream_prediction(server.port(), testing::prediction_body(prompt, 64, -1, true));
    EXPECT_EQ(streamed.error, "");
    EXPECT_EQ(streamed.text, item.at("text").as_string());
    EXPECT_EQ(streamed.final_text, item.at("text").as_string());
    ++checked;
  }
  EXPECT_EQ(checked, 11);
}

/// The npm package `openai`, unmodified, against the server.
TEST(Serve, OpenAiClient) {
  PEREGRINE_REQUIRE_TEST_DATA("example-model/expected.json");
  const std::string clients = kSource + "/tests/clients";
  if (!std::filesystem::exists(clients + "/node_modules/openai")) {
    if (testing::in_ci()) FAIL() << "run npm ci in tests/clients first (./dev test does)";
    GTEST_SKIP() << "the npm packages of tests/clients are not installed";
  }
  ServerProcess server({kExample});
  const std::string command =
      "node " + clients + "/openai_client.mjs http://localhost:" + std::to_string(server.port()) + "/v1 " +
      (testing::test_data() / "example-model/expected.json").string() + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(Serve, TheExamplesChatTemplate) {
  ServerProcess server({kExample});
  const std::string body =
      R"({"messages": [{"role": "user", "content": "Who art thou?"}], "temperature": 0, "max_tokens": 20})";
  const auto chat = json_of(http_request(server.port(), "POST", "/v1/chat/completions", body));
  const auto completion = json_of(http_request(
      server.port(), "POST", "/v1/completions",
      R"({"prompt": "JULIET:\nWho art thou?\n\nROMEO:\n", "temperature": 0, "max_tokens": 20})"));
  const JsonView message = JsonView(chat, "answer").at("choices").items().at(0).at("message");
  EXPECT_EQ(message.at("role").as_string(), "assistant");
  EXPECT_EQ(message.at("content").as_string(),
            JsonView(completion, "answer").at("choices").items().at(0).at("text").as_string());
  EXPECT_FALSE(message.at("content").as_string().empty());
}

TEST(Serve, SeveralModels) {
  const testing::TemporaryDirectory store;
  std::filesystem::create_directory_symlink(kExample, store.path() / "alpha");
  std::filesystem::create_directory(store.path() / "beta");
  std::ofstream(store.path() / "beta" / "serving.properties")
      << "option.model_id=" << kExample << "\noption.compute_dtype=fp32\njob_queue_size=3\n";
  ServerProcess server({"--model-store", store.path().string()});
  const std::string body = testing::prediction_body("ROMEO:", 20, -1, false);
  const auto alpha = http_request(server.port(), "POST", "/predictions/alpha", body);
  const auto beta = http_request(server.port(), "POST", "/predictions/beta", body);
  EXPECT_EQ(alpha.status, 200);
  EXPECT_EQ(alpha.body, beta.body);
  EXPECT_EQ(http_request(server.port(), "POST", "/models/beta/invoke", body).body, beta.body);
  EXPECT_EQ(http_request(server.port(), "POST", "/invocations?model_name=beta", body).body, beta.body);
  const auto unnamed = http_request(server.port(), "POST", "/invocations", body);
  EXPECT_EQ(unnamed.status, 400);
  EXPECT_THAT(unnamed.body, HasSubstr("model_name"));
  const auto unknown = http_request(server.port(), "POST", "/predictions/gamma", body);
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.body, HasSubstr("gamma"));
  const auto ping = json_of(http_request(server.port(), "GET", "/ping"));
  EXPECT_EQ(JsonView(ping, "ping").at("alpha").at("status").as_string(), "Healthy");
  EXPECT_EQ(JsonView(ping, "ping").at("beta").at("status").as_string(), "Healthy");
  // One host's death is the other model's business no more than it is another process'.
  ASSERT_EQ(server.children().size(), 2u);
  ::kill(server.children().front(), SIGKILL);
  EXPECT_EQ(http_request(server.port(), "POST", "/predictions/alpha", body).body, alpha.body);
  EXPECT_EQ(http_request(server.port(), "POST", "/predictions/beta", body).body, alpha.body);
  EXPECT_EQ(server.stop(SIGTERM), 0);
}

TEST(Serve, HostsAreInTheServersGroupAndEndWithIt) {
  ServerProcess server({kExample});
  const pid_t host = server.host();
  EXPECT_EQ(::getpgid(host), ::getpgid(server.pid()));
  std::ifstream file("/proc/" + std::to_string(host) + "/cmdline");
  std::string command(std::istreambuf_iterator<char>(file), {});
  std::replace(command.begin(), command.end(), '\0', ' ');
  EXPECT_THAT(command, HasSubstr("peregrine engine"));
  // A host that a terminal's Ctrl-C reaches as well must leave stopping to the server.
  ::kill(host, SIGINT);
  ::kill(host, SIGTERM);
  EXPECT_EQ(
      http_request(server.port(), "POST", "/invocations", testing::prediction_body("x", 3, -1, false)).status,
      200);
  EXPECT_EQ(server.host(), host);
  EXPECT_EQ(server.stop(SIGKILL), 128 + SIGKILL);
  for (int i = 0; i < 1000 && ::kill(host, 0) == 0; ++i) ::usleep(10'000);
  EXPECT_NE(::kill(host, 0), 0) << "the host outlived its server";
}

TEST(Serve, WhatCannotBeServedIsSaid) {
  const auto refused = [](const std::vector<std::string>& arguments, int exit_code, const std::string& part) {
    std::vector<std::string> command = {"serve", "--port", "0"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const auto result = testing::run_peregrine(command);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(part));
  };
  refused({}, 2, "--model-store");
  refused({"/nowhere"}, 2, "/nowhere");
  refused({kExample, "--option", "tensor_parallel_degree=2"}, 2, "tensor_parallel_degree");
  refused({kExample, "--option", "job_queue_sise=2"}, 2, "job_queue_size");
  refused({kExample, "--option", "model_id=tiiuae/falcon-7b"}, 2, "tiiuae/falcon-7b");
  refused({kExample, "--option", "compute_dtype=fp16"}, 1, "float16");
  refused({kExample, "--model-name", "a/b"}, 2, "--model-name");
  refused({kExample, "--host", "256.1.1.1"}, 2, "256.1.1.1");
  const testing::TemporaryDirectory broken;
  std::filesystem::copy(kExample, broken.path() / "model", std::filesystem::copy_options::recursive);
  std::filesystem::resize_file(broken.path() / "model" / "model.safetensors", 1000);
  refused({(broken.path() / "model").string()}, 1, "model.safetensors");
}

}  // namespace
}  // namespace peregrine
