// SPDX-License-Identifier: Apache-2.0
// `peregrine bench` beside its timings: perplexity, loads on a server, random models as files.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "src/cli/python_random.h"
#include "support/server_process.h"
#include "support/test_data.h"
#include "system/run_program.h"

namespace peregrine {
namespace {

using core::JsonView;
using ::testing::HasSubstr;
using testing::run_peregrine;

const std::string kExample = std::string(PEREGRINE_SOURCE_DIR) + "/examples/shakespeare";
const std::string kText =
    "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
    "Arise, fair sun, and kill the envious moon,\nWho is already sick and pale with grief,\n"
    "That thou her maid art far more fair than she.";

boost::json::value json_of(const testing::ProgramResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return core::parse_json(result.out, "output");
}

std::string joined(const std::vector<std::int64_t>& ids, std::size_t begin, std::size_t end) {
  std::string text;
  for (std::size_t i = begin; i < end; ++i) text += (i == begin ? "" : ",") + std::to_string(ids[i]);
  return text;
}

std::vector<std::int64_t> ids_of(const std::string& directory, const std::string& text) {
  const auto answer = json_of(
      run_peregrine({"tokenize", directory}, boost::json::serialize(boost::json::value(text)) + "\n"));
  std::vector<std::int64_t> ids;
  for (const JsonView& id : JsonView(answer, "output").items()) ids.push_back(id.as_int(0, 1 << 30));
  return ids;
}

/// -log p(ids[at]) for each `at` in [first, end), from the logits of ids[begin, end).
double window_loss(const std::vector<std::int64_t>& ids, std::size_t begin, std::size_t first,
                   std::size_t end) {
  const auto answer =
      json_of(run_peregrine({"logits", kExample, "--ids", joined(ids, begin, end), "--all", "--json"}));
  const auto rows = JsonView(answer, "output").at("logits").items();
  double loss = 0;
  for (std::size_t at = first; at < end; ++at) {
    double sum = 0, chosen = 0;
    const auto row = rows.at(at - 1 - begin).items();
    for (std::size_t id = 0; id < row.size(); ++id) {
      sum += std::exp(row[id].as_number());
      if (static_cast<std::int64_t>(id) == ids[at]) chosen = row[id].as_number();
    }
    loss += std::log(sum) - chosen;
  }
  return loss;
}

TEST(Bench, PerplexityIsThatOfTheLogits) {
  const auto ids = ids_of(kExample, kText);
  ASSERT_GT(ids.size(), 60u);
  constexpr std::size_t kContext = 32, kStride = 12;
  double loss = 0;
  std::int64_t windows = 0;
  for (std::size_t begin = 0, scored = 1; scored < ids.size(); begin += kStride, ++windows) {
    const std::size_t end = std::min(ids.size(), begin + kContext);
    loss += window_loss(ids, begin, scored, end);
    scored = end;
  }
  const testing::TemporaryDirectory folder;
  const auto file = folder.path() / "text.txt";
  std::ofstream(file) << kText;
  for (const std::string& text : {kText, file.string()}) {
    const auto answer =
        json_of(run_peregrine({"bench", kExample, "--perplexity", text, "--context", std::to_string(kContext),
                               "--stride", std::to_string(kStride), "--json"}));
    const JsonView found(answer, "output");
    EXPECT_EQ(found.at("tokens").as_int(0, 1 << 20), std::ssize(ids));
    EXPECT_EQ(found.at("scored_tokens").as_int(0, 1 << 20), std::ssize(ids) - 1);
    EXPECT_EQ(found.at("windows").as_int(0, 1 << 20), windows);
    const double mean = loss / static_cast<double>(ids.size() - 1);
    EXPECT_NEAR(found.at("mean_nll").as_number(), mean, 1e-6);
    EXPECT_NEAR(found.at("perplexity").as_number(), std::exp(mean), 1e-5 * std::exp(mean));
    EXPECT_LT(found.at("perplexity").as_number(), 100) << "the model was trained on such texts";
  }
}

TEST(Bench, PerplexityThatCannotBeMeasuredIsRefused) {
  const auto refused = [](std::vector<std::string> arguments, const std::string& named) {
    arguments.insert(arguments.begin(), "bench");
    const auto result = run_peregrine(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(named));
  };
  refused({kExample, "--perplexity", "x", "--json"}, "at least 2 tokens");
  refused({kExample, "--perplexity", kText, "--context", "2000", "--json"}, "--context");
  refused({kExample, "--perplexity", kText, "--context", "8", "--stride", "8", "--json"}, "--stride");
  refused({"--random", "llama-3.2-1b:layers=1,vocab=512,hidden=64,heads=2,kv_heads=1,intermediate=64",
           "--perplexity", kText, "--json"},
          "tokenizer");
  refused({kExample, "--stride", "8"}, "--perplexity");
}

TEST(Bench, LoadIsThatOfPythonsGenerator) {
  cli::PythonRandom random(7);  // random.Random(7)
  std::vector<std::int32_t> drawn;
  for (int i = 0; i < 3; ++i) drawn.push_back(random.randint(32, 256));
  for (int i = 0; i < 4; ++i) drawn.push_back(random.randint(300, 50000));
  EXPECT_THAT(drawn, ::testing::ElementsAre(114, 70, 133, 42959, 3464, 5047, 35419));
  cli::PythonRandom other(1000007);
  EXPECT_EQ(other.randint(32, 256), 230);
  for (int i = 0; i < 2000; ++i) EXPECT_EQ(other.randint(5, 5), 5);
}

/// Prompt and answer tokens of the first `count` requests, as loadgen-like tools draw them.
std::pair<std::int64_t, std::int64_t> tokens_of_load(int count) {
  cli::PythonRandom random(3);
  std::int64_t prompts = 0, answers = 0;
  for (int i = 0; i < count; ++i) {
    const std::int32_t prompt = random.randint(4, 20);
    prompts += prompt;
    answers += random.randint(2, 9);
    for (std::int32_t k = 0; k < prompt; ++k) random.randint(1, 2000);
  }
  return {prompts, answers};
}

TEST(Bench, ALoadOnAServerGetsEveryAnswerWhole) {
  const testing::ServerProcess server({kExample, "--threads", "1"});
  const std::string url = "http://localhost:" + std::to_string(server.port());
  const auto answer = json_of(
      run_peregrine({"bench", "--url", url, "--clients", "3", "--requests", "8", "--seed", "3",
                     "--prompt-range", "4:20", "--output-range", "2:9", "--token-ids", "1:2000", "--json"}));
  const JsonView found(answer, "output");
  const auto [prompts, answers] = tokens_of_load(8);
  EXPECT_EQ(found.at("errors").as_int(0, 100), 0);
  EXPECT_EQ(found.at("wrong_length").as_int(0, 100), 0);
  EXPECT_EQ(found.at("prompt_tokens_total").as_int(0, 1 << 20), prompts);
  EXPECT_EQ(found.at("output_tokens_total").as_int(0, 1 << 20), answers);
  EXPECT_EQ(found.at("ttft_ms").at("n").as_int(0, 100), 8);
  EXPECT_GT(found.at("output_tok_s").as_number(), 0);
  EXPECT_LE(found.at("gap_ms").at("p50").as_number(), found.at("gap_ms").at("p99").as_number());

  // Ids that the model does not have: every request is refused, and that is no success.
  const auto refused = run_peregrine(
      {"bench", "--url", url, "--requests", "2", "--warmup", "0", "--token-ids", "40000:40000", "--json"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.out, HasSubstr("\"errors\":2"));
  EXPECT_THAT(refused.err, HasSubstr("status 4"));
}

TEST(Bench, AServerThatIsNotThereIsNamed) {
  const auto gone = run_peregrine({"bench", "--url", "http://127.0.0.1:1", "--json"});
  EXPECT_NE(gone.exit_code, 0);
  EXPECT_THAT(gone.err, HasSubstr("127.0.0.1:1"));
  EXPECT_EQ(run_peregrine({"bench", "--url", "localhost:80"}).exit_code, 2);
  EXPECT_EQ(run_peregrine({"bench", "--url", "http://localhost:9", "--batch", "8"}).exit_code, 2);
  EXPECT_EQ(run_peregrine({"bench", "--url", "http://localhost:0"}).exit_code, 2);
  EXPECT_EQ(run_peregrine({"bench", "--url", "http://[::1]:8", "--prompt-range", "9:3"}).exit_code, 2);
}

TEST(Bench, RandomModelsAsFilesCanBeServed) {
  const testing::TemporaryDirectory folder;
  const std::string directory = (folder.path() / "model").string();
  EXPECT_EQ(run_peregrine({"bench", "--random",
                           "falcon-7b:layers=2,hidden=64,heads=2,"
                           "vocab=600",
                           "--write", directory})
                .exit_code,
            0);
  EXPECT_EQ(ids_of(directory, "a\n w000001"),
            (std::vector<std::int64_t>{97, 10, 32, 119, 48, 48, 48, 48, 48, 49}));
  const testing::ServerProcess server({directory, "--threads", "1"});
  const auto answer = json_of(run_peregrine(
      {"bench", "--url", "http://127.0.0.1:" + std::to_string(server.port()), "--clients", "2", "--requests",
       "3", "--prompt-range", "3:9", "--output-range", "5", "--token-ids", "1:500", "--json"}));
  EXPECT_EQ(JsonView(answer, "output").at("output_tokens_total").as_int(0, 100), 15);

  const std::string seq2seq = (folder.path() / "seq2seq").string();
  EXPECT_EQ(
      run_peregrine({"bench", "--random", "flan-t5-small:layers=1,vocab=600", "--write", seq2seq}).exit_code,
      0);
  EXPECT_EQ(run_peregrine({"bench", seq2seq, "--prompt-tokens", "8", "--batch", "1", "--new-tokens", "2",
                           "--repeat", "1", "--json"})
                .exit_code,
            0);
}

}  // namespace
}  // namespace peregrine
