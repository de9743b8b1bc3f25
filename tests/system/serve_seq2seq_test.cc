// SPDX-License-Identifier: Apache-2.0
// An encoder-decoder through the whole program: the golden answers of a T5 as text, and 32 requests of every
// kind at once, undisturbed and while the engine host is killed.

#include <gtest/gtest.h>
#include <signal.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/files.h"
#include "support/http_client.h"
#include "support/server_process.h"
#include "support/test_data.h"

namespace peregrine {
namespace {

namespace json = boost::json;
using testing::http_request;
using testing::HttpResponse;
using testing::ServerProcess;

constexpr char kFixture[] = "golden/t5_v1_1";
constexpr int kRequests = 32;

/// A word for each id, so that the fixture, which has no tokenizer, can be asked in text.
std::string word_tokenizer(int vocab_size) {
  json::object vocab;
  for (int id = 0; id < vocab_size; ++id) vocab["t" + std::to_string(id)] = id;
  const json::object tokenizer = {
      {"version", "1.0"},
      {"added_tokens", json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
      {"post_processor", nullptr},
      {"decoder", nullptr},
      {"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "t0"}}},
  };
  return json::serialize(tokenizer);
}

std::string words(const json::array& ids) {
  std::string out;
  for (const auto& id : ids) out += (out.empty() ? "t" : " t") + std::to_string(id.to_number<std::int64_t>());
  return out;
}

class ServeSeq2Seq : public ::testing::Test {
 protected:
  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA(kFixture);
    const auto fixture = testing::test_data() / kFixture;
    for (const auto& entry : std::filesystem::directory_iterator(fixture)) {
      if (entry.path().filename() == "expected.json") continue;
      std::filesystem::copy(entry.path(), folder_.path() / entry.path().filename());
    }
    expected_ = json::parse(core::read_file(fixture / "expected.json", 1 << 28)).as_object();
    std::ofstream(folder_.path() / "tokenizer.json")
        << word_tokenizer(static_cast<int>(expected_.at("vocab_size").to_number<int>()));
    std::ofstream(folder_.path() / "serving.properties") << "option.dtype=fp32\noption.compute_dtype=fp32\n";
  }

  std::string prompt(std::size_t index) const {
    const auto& prompts = expected_.at("prompts").as_array();
    return words(prompts.at(index % prompts.size()).as_array());
  }

  static HttpResponse ask(const ServerProcess& server, const json::object& body) {
    return http_request(server.port(), "POST", "/invocations", json::serialize(body));
  }

  /// Greedy, sampled and beamed requests over texts of many lengths.
  std::vector<std::string> mixed_requests() const {
    std::vector<std::string> out;
    for (int i = 0; i < kRequests; ++i) {
      std::string text = prompt(static_cast<std::size_t>(i));
      for (int more = 0; more < i % 5; ++more) text += " " + prompt(static_cast<std::size_t>(i + more));
      json::object parameters = {{"max_new_tokens", 20 + i}, {"details", true}, {"seed", i}};
      parameters["ignore_eos_token"] = true;
      if (i % 3 == 0) parameters["do_sample"] = false;
      if (i % 3 == 1) parameters["num_beams"] = 2 + i % 4;
      if (i % 3 == 2) parameters["temperature"] = 0.8;
      out.push_back(json::serialize(json::object{{"inputs", text}, {"parameters", parameters}}));
    }
    return out;
  }

  static std::vector<std::string> together(const ServerProcess& server,
                                           const std::vector<std::string>& requests) {
    std::vector<std::string> out(requests.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      threads.emplace_back([&, i] {
        const HttpResponse response = http_request(server.port(), "POST", "/invocations", requests[i]);
        out[i] = std::to_string(response.status) + " " + response.body;
      });
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  }

  testing::TemporaryDirectory folder_;
  json::object expected_;
};

TEST_F(ServeSeq2Seq, GoldenAnswersAsText) {
  ServerProcess server({folder_.path().string()});
  const auto& greedy = expected_.at("greedy").as_array();
  ASSERT_GE(greedy.size(), 3u);
  for (std::size_t i = 0; i < greedy.size(); ++i) {
    const auto& ids = greedy[i].at("new_ids").as_array();
    const json::object parameters = {
        {"max_new_tokens", ids.size()}, {"do_sample", false}, {"ignore_eos_token", true}};
    const HttpResponse response = ask(server, {{"inputs", prompt(i)}, {"parameters", parameters}});
    ASSERT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(json::parse(response.body).at("generated_text").as_string(), words(ids)) << "prompt " << i;
  }
}

TEST_F(ServeSeq2Seq, GoldenBeamsAsText) {
  ServerProcess server({folder_.path().string()});
  int beams = 0;
  for (const auto& one : expected_.at("generate").as_array()) {
    json::object parameters = one.at("params").as_object();
    if (!parameters.contains("num_beams")) continue;
    if (parameters.at("num_return_sequences").to_number<int>() > 1) parameters["num_return_sequences"] = 1;
    if (parameters.at("eos_token_id").is_null()) parameters["ignore_eos_token"] = true;
    const auto index = one.at("prompt").to_number<std::size_t>();
    const HttpResponse response = ask(server, {{"inputs", prompt(index)}, {"parameters", parameters}});
    ASSERT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(json::parse(response.body).at("generated_text").as_string(),
              words(one.at("new_ids").as_array().at(0).as_array()))
        << one.at("name");
    ++beams;
  }
  EXPECT_GE(beams, 8);
}

TEST_F(ServeSeq2Seq, TogetherEqualsAlone) {
  ServerProcess server({folder_.path().string()});
  const auto requests = mixed_requests();
  std::vector<std::string> alone;
  for (const std::string& request : requests) alone.push_back(together(server, {request}).front());
  for (const std::string& answer : alone) EXPECT_EQ(answer.substr(0, 4), "200 ") << answer;
  EXPECT_EQ(together(server, requests), alone);
}

TEST_F(ServeSeq2Seq, AKilledHostIsAPause) {
  ServerProcess server({folder_.path().string()});
  const auto requests = mixed_requests();
  const auto undisturbed = together(server, requests);
  const pid_t host = server.host();
  std::vector<std::string> disturbed;
  std::thread clients([&] { disturbed = together(server, requests); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  ::kill(host, SIGKILL);
  clients.join();
  EXPECT_EQ(disturbed, undisturbed);
}

}  // namespace
}  // namespace peregrine
