// SPDX-License-Identifier: Apache-2.0
// Encoders as users meet them: the golden BERTs over HTTP and on the command line.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include "core/files.h"
#include "core/json.h"
#include "support/http_client.h"
#include "support/server_process.h"
#include "support/tiny_bert.h"
#include "system/run_program.h"

namespace peregrine {
namespace {

using core::JsonView;
using ::testing::HasSubstr;
using testing::http_request;
using testing::HttpResponse;
using testing::ServerProcess;
namespace fs = std::filesystem;

constexpr double kTolerance = 2e-4;

boost::json::value json_of(const HttpResponse& response) {
  EXPECT_EQ(response.status, 200) << response.body;
  return core::parse_json(response.body, "answer");
}

std::vector<float> floats(const JsonView& list) {
  std::vector<float> out;
  for (const JsonView& item : list.items()) out.push_back(static_cast<float>(item.as_number()));
  return out;
}

std::string ids_json(const JsonView& prompt) {
  std::string out;
  for (const JsonView& id : prompt.items()) {
    out += (out.empty() ? "" : ",") + std::to_string(id.as_int(0, 1 << 20));
  }
  return out;
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected, double scale = 1) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i] * scale, kTolerance) << i;
  }
}

double length_of(const std::vector<float>& vector) {
  double sum = 0;
  for (const float value : vector) sum += double{value} * value;
  return std::sqrt(sum);
}

class EncodeSystemTest : public ::testing::Test {
 protected:
  /// A golden model, and (copied beside links to its files) a tokenizer.
  fs::path model(const std::string& name, bool with_tokenizer) {
    const fs::path golden = testing::test_data() / "golden" / name;
    document_ = core::parse_json(core::read_file(golden / "expected.json", 1 << 26), "expected.json");
    if (!with_tokenizer) return golden;
    const fs::path directory = folder_.path() / name;
    fs::create_directories(directory);
    for (const auto& entry : fs::directory_iterator(golden)) {
      fs::create_symlink(entry.path(), directory / entry.path().filename());
    }
    testing::write_file(directory / "tokenizer.json", testing::tiny_bert_tokenizer());
    return directory;
  }
  JsonView expected() const { return {document_, "expected.json"}; }

  testing::TemporaryDirectory folder_;
  boost::json::value document_;
};

TEST_F(EncodeSystemTest, GoldenEmbeddingsOverHttp) {
  for (const char* name : {"bert_base", "bert_cls", "roberta_cls", "distilbert_cls", "electra_cls"}) {
    PEREGRINE_REQUIRE_TEST_DATA(std::string("golden/") + name + "/expected.json");
    const ServerProcess server({model(name, false).string(), "--threads", "2"});
    const auto prompts = expected().at("prompts").items();
    const auto results = expected().at("results").items();
    std::string all;
    for (const JsonView& prompt : prompts) all += (all.empty() ? "[" : ",[") + ids_json(prompt) + "]";
    struct Case {
      const char* pooling;
      const char* field;
    };
    for (const Case& wanted : {Case{"mean", "mean_pooled"}, Case{"cls", "cls_hidden"}}) {
      for (const bool normalize : {false, true}) {
        const std::string end = std::string(",\"pooling\":\"") + wanted.pooling +
                                "\",\"normalize\":" + (normalize ? "true" : "false") + "}";
        const auto together =
            json_of(http_request(server.port(), "POST", "/v1/embeddings", "{\"input\":[" + all + "]" + end));
        const auto data = JsonView(together, "answer").at("data").items();
        ASSERT_EQ(data.size(), prompts.size());
        for (std::size_t i = 0; i < prompts.size(); ++i) {
          SCOPED_TRACE(std::string(name) + " " + wanted.field + " " + std::to_string(i));
          const auto vector = floats(data[i].at("embedding"));
          const auto whole = floats(results[i].at(wanted.field));
          expect_near(vector, whole, normalize ? 1 / length_of(whole) : 1);
          const auto alone = json_of(http_request(server.port(), "POST", "/v1/embeddings",
                                                  "{\"input\":[" + ids_json(prompts[i]) + "]" + end));
          EXPECT_EQ(floats(JsonView(alone, "answer").at("data").items()[0].at("embedding")), vector)
              << "alone as among others, to the last bit";
        }
      }
    }
  }
}

TEST_F(EncodeSystemTest, GoldenValuesOnTheCommandLine) {
  for (const char* name : {"bert_base", "bert_cls"}) {
    PEREGRINE_REQUIRE_TEST_DATA(std::string("golden/") + name + "/expected.json");
    const std::string directory = model(name, false).string();
    const std::string ids = ids_json(expected().at("prompts").items()[1]);
    const JsonView result = expected().at("results").items()[1];
    for (const char* device : {"cpu", "reference"}) {
      auto run = testing::run_peregrine({"embed", directory, "--ids", ids, "--device", device, "--param",
                                         "pooling=cls", "--param", "normalize=false", "--json"});
      ASSERT_EQ(run.exit_code, 0) << run.err;
      auto answer = core::parse_json(run.out, "embed");
      expect_near(floats(JsonView(answer, "embed").at("embedding")), floats(result.at("cls_hidden")));
      run = testing::run_peregrine({"embed", directory, "--ids", ids, "--device", device, "--json"});
      ASSERT_EQ(run.exit_code, 0) << run.err;
      answer = core::parse_json(run.out, "embed");
      const auto mean = floats(result.at("mean_pooled"));
      expect_near(floats(JsonView(answer, "embed").at("embedding")), mean, 1 / length_of(mean));
      if (std::string(name) == "bert_base") continue;
      run = testing::run_peregrine({"logits", directory, "--ids", ids, "--device", device, "--json"});
      ASSERT_EQ(run.exit_code, 0) << run.err;
      answer = core::parse_json(run.out, "logits");
      expect_near(floats(JsonView(answer, "logits").at("logits")),
                  floats(result.at("classification_logits")));
    }
  }
}

TEST_F(EncodeSystemTest, TextsAreClassifiedAsTheirIds) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/bert_cls/expected.json");
  const std::string directory = model("bert_cls", true).string();
  const ServerProcess server({directory, "--threads", "2"});
  const auto classes = json_of(http_request(server.port(), "POST", "/invocations",
                                            R"({"inputs":"the cat sat","parameters":{"top_k":null,)"
                                            R"("function_to_apply":"none"}})"));
  const auto run = testing::run_peregrine({"logits", directory, "--ids", "2,8,9,11,3", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto answer = core::parse_json(run.out, "logits");
  const auto logits = floats(JsonView(answer, "logits").at("logits"));
  const auto found = JsonView(classes, "answer").items();
  ASSERT_EQ(found.size(), logits.size());
  for (const JsonView& item : found) {
    const std::string label(item.at("label").as_string());
    EXPECT_EQ(static_cast<float>(item.at("score").as_number()),
              logits.at(static_cast<std::size_t>(label.back() - '0')));
  }
  // The second text of a pair has types of its own, which the model sees.
  const auto score_of = [&](const std::string& inputs) {
    const auto answer = json_of(http_request(
        server.port(), "POST", "/invocations",
        "{\"inputs\":" + inputs + ",\"parameters\":{\"function_to_apply\":\"none\",\"top_k\":null}}"));
    double sum = 0;
    for (const JsonView& item : JsonView(answer, "answer").items()) sum += item.at("score").as_number();
    return sum;
  };
  EXPECT_NE(score_of(R"({"text":"a cat","text_pair":"the dog"})"),
            score_of(R"({"text":"a cat [SEP] the dog"})"));
  // And the embedding by the command line is that of the server.
  const auto embedded = testing::run_peregrine({"embed", directory, "--text", "the cat sat", "--json"});
  ASSERT_EQ(embedded.exit_code, 0) << embedded.err;
  const auto served =
      json_of(http_request(server.port(), "POST", "/v1/embeddings", R"({"input":"the cat sat"})"));
  const auto by_command = core::parse_json(embedded.out, "embed");
  EXPECT_EQ(floats(JsonView(by_command, "embed").at("embedding")),
            floats(JsonView(served, "answer").at("data").items()[0].at("embedding")));
}

TEST_F(EncodeSystemTest, AKilledHostIsAPause) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/bert_cls/expected.json");
  const ServerProcess server({model("bert_cls", true).string(), "--threads", "1"});
  std::string texts = "\"a\"";
  for (int i = 0; i < 1500; ++i) texts += i % 3 == 0 ? ",\"the cat sat on the mat\"" : ",\"what is paris ?\"";
  const std::string body = "{\"input\":[" + texts + "],\"encoding_format\":\"base64\"}";
  const HttpResponse before = http_request(server.port(), "POST", "/v1/embeddings", body);
  ASSERT_EQ(before.status, 200) << before.body;
  HttpResponse after;
  std::thread client([&] { after = http_request(server.port(), "POST", "/v1/embeddings", body); });
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    ::kill(server.host(), SIGKILL);
  }
  client.join();
  EXPECT_EQ(after.status, 200) << after.body;
  EXPECT_EQ(after.body, before.body);
}

TEST_F(EncodeSystemTest, ModelsAndTasksThatDoNotGoTogether) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/bert_cls/expected.json");
  const std::string bert = model("bert_cls", false).string();
  const std::string falcon = std::string(PEREGRINE_SOURCE_DIR) + "/examples/shakespeare";
  auto run = testing::run_peregrine({"generate", bert, "--ids", "1,2"});
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, HasSubstr("peregrine embed"));
  run = testing::run_peregrine({"embed", falcon, "--ids", "1,2"});
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, HasSubstr("peregrine generate"));
  run = testing::run_peregrine({"logits", bert, "--ids", "1,2", "--all"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  for (const auto& [directory, task] :
       {std::pair{bert, "text-generation"}, std::pair{bert, "rerank"}, std::pair{falcon, "text-embedding"}}) {
    run =
        testing::run_peregrine({"serve", directory, "--port", "0", "--option", std::string("task=") + task});
    EXPECT_NE(run.exit_code, 0);
    EXPECT_THAT(run.err, HasSubstr(std::string("option.task=") + task));
  }
  run = testing::run_peregrine({"inspect", bert});
  EXPECT_THAT(run.out, HasSubstr("LABEL_2"));
  run = testing::run_peregrine({"inspect", bert, "--plan"});
  EXPECT_THAT(run.out, HasSubstr("weight_bytes"));
}

}  // namespace
}  // namespace peregrine
