// SPDX-License-Identifier: Apache-2.0
// The commands as a user runs them, on the example model.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/files.h"
#include "core/json.h"
#include "support/test_data.h"
#include "system/run_program.h"

namespace peregrine {
namespace {

using core::JsonView;
using ::testing::HasSubstr;
using testing::ProgramResult;
using testing::run_peregrine;

const std::string kExample = std::string(PEREGRINE_SOURCE_DIR) + "/examples/shakespeare";

/// Parses the one JSON document that a command printed.
boost::json::value json_of(const ProgramResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return core::parse_json(result.out, "output");
}

std::vector<std::int64_t> ids_of(const JsonView& list) {
  std::vector<std::int64_t> ids;
  for (const JsonView& item : list.items()) ids.push_back(item.as_int(0, 1 << 30));
  return ids;
}

std::string joined(const std::vector<std::int64_t>& ids) {
  std::string text;
  for (const std::int64_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

void expect_refused(const std::vector<std::string>& arguments, const std::vector<std::string>& named) {
  const ProgramResult result = run_peregrine(arguments);
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_EQ(result.out, "");
  for (const std::string& part : named) EXPECT_THAT(result.err, HasSubstr(part));
}

TEST(Cli, ExampleGivesItsRecordedAnswers) {
  PEREGRINE_REQUIRE_TEST_DATA("example-model/expected.json");
  const auto document = core::parse_json(
      core::read_file(testing::test_data() / "example-model/expected.json", 1 << 24), "expected.json");
  const JsonView expected(document, "expected.json");
  const auto last_logits = expected.at("last_logits").items();
  std::size_t index = 0;
  for (const JsonView& item : expected.at("greedy").items()) {
    const std::string prompt(item.at("prompt").as_string());
    const auto answer =
        json_of(run_peregrine({"generate", kExample, "--prompt", prompt, "--greedy", "--max-new-tokens", "64",
                               "--param", "eos_token_id=null", "--json"}));
    const JsonView found(answer, "output");
    EXPECT_EQ(ids_of(found.at("ids")), ids_of(item.at("new_ids"))) << prompt;
    EXPECT_EQ(found.at("text").as_string(), item.at("text").as_string()) << prompt;
    EXPECT_EQ(found.at("finish_reason").as_string(), "length");
    const auto logprobs = found.at("logprobs").items();
    const auto expected_logprobs = item.at("logprobs").items();
    ASSERT_EQ(logprobs.size(), expected_logprobs.size());
    for (std::size_t i = 0; i < logprobs.size(); ++i)
      EXPECT_NEAR(logprobs[i].as_number(), expected_logprobs[i].as_number(), 1e-4);
    EXPECT_EQ(found.at("sequences").items().size(), 1u);

    const auto ids = ids_of(item.at("prompt_ids"));
    const auto logits = json_of(run_peregrine({"logits", kExample, "--ids", joined(ids), "--json"}));
    const auto row = JsonView(logits, "output").at("logits").items();
    const auto expected_row = last_logits.at(index++).items();
    ASSERT_EQ(row.size(), expected_row.size());
    for (std::size_t i = 0; i < row.size(); ++i)
      ASSERT_NEAR(row[i].as_number(), expected_row[i].as_number(), 2e-4);
  }
  EXPECT_EQ(index, 11u);
}

TEST(Cli, IdsAndTextAreTheSamePrompt) {
  const auto tokens = run_peregrine({"tokenize", kExample}, "\"ROMEO:\"\n\n\"\"\n");
  EXPECT_EQ(tokens.out, "[859,26]\n[]\n");
  const auto by_text = run_peregrine(
      {"generate", kExample, "--prompt", "ROMEO:", "--param", "seed=7", "--max-new-tokens", "20", "--json"});
  const auto by_ids = run_peregrine(
      {"generate", kExample, "--ids", "859,26", "--param", "seed=7", "--max-new-tokens", "20", "--json"});
  EXPECT_EQ(by_text.exit_code, 0) << by_text.err;
  EXPECT_EQ(by_text.out, by_ids.out);
  const auto streamed =
      run_peregrine({"generate", kExample, "--ids", "859,26", "--param", "seed=7", "--max-new-tokens", "20"});
  EXPECT_EQ(streamed.out, std::string(JsonView(json_of(by_text), "output").at("text").as_string()) + "\n");
}

TEST(Cli, SamplesByDefaultAndBySeed) {
  // generation_config.json says do_sample, and 200 tokens.
  const std::vector<std::string> command = {"generate", kExample, "--prompt", "ROMEO:", "--json"};
  const auto first = json_of(run_peregrine(command));
  const auto second = json_of(run_peregrine(command));
  EXPECT_NE(ids_of(JsonView(first, "output").at("ids")), ids_of(JsonView(second, "output").at("ids")));
  const auto several =
      json_of(run_peregrine({"generate", kExample, "--prompt", "ROMEO:", "--param", "n=3", "--param",
                             "seed=1", "--param", "top_n_tokens=2", "--max-new-tokens", "5", "--json"}));
  const auto sequences = JsonView(several, "output").at("sequences").items();
  ASSERT_EQ(sequences.size(), 3u);
  EXPECT_NE(ids_of(sequences[0].at("ids")), ids_of(sequences[1].at("ids")));
  EXPECT_EQ(JsonView(several, "output").at("top_tokens").items().at(4).items().size(), 2u);
}

TEST(Cli, NoTokenizerIsNeededForIds) {
  const testing::TemporaryDirectory folder;
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy(kExample + "/" + file, folder.path() / file);
  const auto answer = json_of(
      run_peregrine({"generate", folder.path(), "--ids", "859,26", "--max-new-tokens", "3", "--json"}));
  EXPECT_TRUE(JsonView(answer, "output").at("text").is_null());
  expect_refused({"generate", folder.path(), "--prompt", "x"}, {"tokenizer.json"});
}

TEST(Cli, DetokenizeStreamsPiecesThatAddUp) {
  const auto whole = run_peregrine({"detokenize", kExample}, "[859,26,199,0]\n");
  EXPECT_EQ(whole.out, "\"ROMEO:\\n<|endoftext|>\"\n");
  EXPECT_EQ(run_peregrine({"detokenize", kExample, "--skip-special"}, "[859,26,199,0]\n").out,
            "\"ROMEO:\\n\"\n");
  const auto pieces = json_of(run_peregrine({"detokenize", kExample, "--stream"}, "[859,26,199,0]\n"));
  std::string sum;
  for (const auto& piece : pieces.as_array()) sum += std::string_view(piece.as_string());
  EXPECT_EQ(pieces.as_array().size(), 4u);
  EXPECT_EQ(sum, "ROMEO:\n<|endoftext|>");
}

TEST(Cli, InspectSaysWhatTheModelIs) {
  const auto facts = json_of(run_peregrine({"inspect", kExample, "--json"}));
  EXPECT_EQ(JsonView(facts, "output").at("family").as_string(), "falcon");
  EXPECT_EQ(JsonView(facts, "output").at("kv_heads").as_int(0, 100), 1);
  const auto plan =
      json_of(run_peregrine({"inspect", kExample, "--plan", "--json", "--option", "kv_blocks=50"}));
  EXPECT_EQ(JsonView(plan, "output").at("kv_blocks").as_int(0, 1000), 50);
  EXPECT_EQ(JsonView(plan, "output").at("compute_dtype").as_string(), "float32");
  EXPECT_THAT(run_peregrine({"inspect", kExample, "--config"}).out, HasSubstr("serving.properties"));
}

TEST(Cli, WrongUsageIsRefusedByName) {
  expect_refused({"generate", kExample}, {"--prompt"});
  expect_refused({"generate", kExample, "--ids", "1,x"}, {"--ids", "'x'"});
  expect_refused({"generate", kExample, "--ids", "1,99999"}, {"99999", "2047"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "top_p=2"}, {"top_p", "2"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "temprature=1"},
                 {"temprature", "temperature"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "top_k"}, {"name=value"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "num_beams=4"}, {"num_beams"});
  expect_refused({"generate", kExample, "--ids", "1", "--option", "compute_dtpe=fp32"},
                 {"compute_dtpe", "option.compute_dtype"});
  expect_refused({"generate", kExample, "--ids", "1", "--option", "dtype=int3"},
                 {"option.dtype", "int3", "bf16"});
  expect_refused({"generate", kExample, "--ids", "1", "--option", "tensor_parallel_degree=2"},
                 {"tensor_parallel_degree"});
  expect_refused({"generate", kExample, "--ids", "1", "--device", "gpu"}, {"gpu", "reference"});
  expect_refused({"generate", kExample, "--ids", "1", "--isa", "neon"}, {"neon", "avx2"});
  expect_refused({"generate", "/nowhere", "--ids", "1"}, {"/nowhere"});
  expect_refused({"frobnicate"}, {"frobnicate"});
  expect_refused({}, {"subcommand"});
  expect_refused({"bench", "--random", "falcon-8b"}, {"falcon-8b", "falcon-7b"});
  EXPECT_EQ(run_peregrine({"--help"}).exit_code, 0);
  EXPECT_THAT(run_peregrine({"generate", "--help"}).out, HasSubstr("repetition_penalty"));
  const auto bad_line = run_peregrine({"tokenize", kExample}, "\"fine\"\n{\n");
  EXPECT_EQ(bad_line.exit_code, 2);
  EXPECT_THAT(bad_line.err, HasSubstr("input line 2"));
}

TEST(Cli, AFullDiskIsNotSuccess) {
  const std::string command =
      std::string(PEREGRINE_BINARY) + " logits " + kExample + " --ids 1 --json >/dev/full 2>/dev/null";
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST(Cli, BenchReportsRatesAndLimits) {
  const auto result =
      json_of(run_peregrine({"bench", "--random", "llama-3.2-1b:layers=1,vocab=512", "--batch", "1,3",
                             "--prompt-tokens", "16", "--new-tokens", "4", "--repeat", "1", "--json"}));
  const JsonView report(result, "output");
  EXPECT_GT(report.at("prefill_tok_s").as_number(), 0);
  const auto decode = report.at("decode").items();
  ASSERT_EQ(decode.size(), 2u);
  EXPECT_EQ(decode[1].at("batch").as_int(0, 100), 3);
  EXPECT_GT(decode[1].at("tok_s").as_number(), 0);
}

}  // namespace
}  // namespace peregrine
