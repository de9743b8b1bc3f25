// SPDX-License-Identifier: Apache-2.0
// The commands as a user runs them, on the example model.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <utility>

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

/// `--param` of each member of an object.
std::vector<std::string> param_flags(const JsonView& parameters) {
  std::vector<std::string> flags;
  for (const auto& member : parameters.value().as_object()) {
    flags.insert(flags.end(),
                 {"--param", std::string(member.key()) + "=" + boost::json::serialize(member.value())});
  }
  return flags;
}

TEST(Cli, BeamsOfGoldenModels) {
  // A decoder, and an encoder-decoder, whose ids are the text.
  for (const std::string name : {"gpt2", "t5_v1_1"}) {
    PEREGRINE_REQUIRE_TEST_DATA("golden/" + name + "/expected.json");
    const auto directory = testing::test_data() / "golden" / name;
    const auto document = core::parse_json(core::read_file(directory / "expected.json", 1 << 26), name);
    const JsonView expected(document, name);
    std::size_t searches = 0;
    for (const JsonView& item : expected.at("generate").items()) {
      if (!item.value().as_object().contains("sequences_scores")) continue;
      ++searches;
      const auto prompt =
          expected.at("prompts").items().at(static_cast<std::size_t>(item.at("prompt").as_int(0, 99)));
      std::vector<std::string> command = {"generate", directory, "--ids", joined(ids_of(prompt)), "--json"};
      for (const std::string& flag : param_flags(item.at("params"))) command.push_back(flag);
      const auto answer = json_of(run_peregrine(command));
      const auto found = JsonView(answer, "output").at("sequences").items();
      const auto wanted = item.at("new_ids").items();
      const auto scores = item.at("sequences_scores").items();
      ASSERT_EQ(found.size(), wanted.size()) << name << " " << item.at("name").as_string();
      for (std::size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(ids_of(found[i].at("ids")), ids_of(wanted[i]))
            << name << " " << item.at("name").as_string();
        EXPECT_NEAR(found[i].at("score").as_number(), scores[i].as_number(), 1e-4);
      }
    }
    EXPECT_GT(searches, 5u) << name;
  }
}

TEST(Cli, SecureModeRefusesPickledWeights) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/falcon_7b_bin/pytorch_model.bin");
  const std::string pickled = testing::test_data() / "golden/falcon_7b_bin";
  const std::vector<std::string> named = {"pytorch_model.bin", "option.allow_pickle=false", "safetensors"};
  expect_refused({"inspect", pickled, "--option", "allow_pickle=false"}, named);
  ::setenv("SAGEMAKER_SECURE_MODE", "true", 1);
  ::setenv("SAGEMAKER_SECURITY_CONTROLS", "DISALLOW_PICKLE_FILES", 1);
  expect_refused({"inspect", pickled}, named);
  expect_refused({"generate", pickled, "--ids", "1,2", "--max-new-tokens", "1"}, named);
  const ProgramResult safe = run_peregrine({"inspect", kExample});
  ::unsetenv("SAGEMAKER_SECURE_MODE");
  ::unsetenv("SAGEMAKER_SECURITY_CONTROLS");
  EXPECT_EQ(safe.exit_code, 0) << safe.err;
  EXPECT_EQ(run_peregrine({"inspect", pickled}).exit_code, 0);
}

TEST(Cli, TheBestOfSeveral) {
  const auto sequences = [](const std::string& n) {
    const auto answer = json_of(run_peregrine(
        {"generate", kExample, "--prompt", "ROMEO:", "--param", "best_of=5", "--param", "n=" + n, "--param",
         "seed=3", "--param", "do_sample=true", "--max-new-tokens", "12", "--json"}));
    std::vector<std::pair<double, std::vector<std::int64_t>>> out;
    for (const JsonView& item : JsonView(answer, "output").at("sequences").items()) {
      const auto ids = ids_of(item.at("ids"));
      out.emplace_back(item.at("score").as_number() / static_cast<double>(ids.size()), ids);
    }
    return out;
  };
  auto all = sequences("5");
  ASSERT_EQ(all.size(), 5u);
  std::ranges::stable_sort(all, std::greater<>(), [](const auto& sequence) { return sequence.first; });
  all.resize(2);
  EXPECT_EQ(sequences("2"), all);
}

TEST(Cli, StopStringsCutTheTextAndEndHypotheses) {
  const std::vector<std::string> command = {
      "generate", kExample, "--prompt", "ROMEO:", "--greedy", "--max-new-tokens", "40", "--json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), command.begin(), command.end());
    return json_of(run_peregrine(more));
  };
  const auto whole = with({});
  const std::string text(JsonView(whole, "output").at("text").as_string());
  const std::string stop = text.substr(text.size() / 2, 3);
  const auto cut = with({"--stop", stop});
  EXPECT_EQ(JsonView(cut, "output").at("text").as_string(), text.substr(0, text.find(stop)));
  EXPECT_EQ(JsonView(cut, "output").at("finish_reason").as_string(), "stop_sequence");
  const auto beams = with({"--stop", stop, "--param", "num_beams=3", "--param", "n=3"});
  for (const JsonView& item : JsonView(beams, "output").at("sequences").items()) {
    EXPECT_EQ(item.at("text").as_string().find(stop), std::string_view::npos) << stop;
  }
}

TEST(Cli, APromptHasTheLogProbabilitiesThatItsTokensWereGeneratedWith) {
  const auto answer =
      json_of(run_peregrine({"generate", kExample, "--ids", "859,26", "--greedy", "--max-new-tokens", "20",
                             "--param", "eos_token_id=null", "--json"}));
  std::vector<std::int64_t> ids = {859, 26};
  for (const std::int64_t id : ids_of(JsonView(answer, "output").at("ids"))) ids.push_back(id);
  const auto scored = json_of(run_peregrine({"generate", kExample, "--ids", joined(ids), "--max-new-tokens",
                                             "1", "--param", "prompt_logprobs=2", "--json"}));
  const auto prompt = JsonView(scored, "output").at("prompt_logprobs").items();
  ASSERT_EQ(prompt.size(), ids.size());
  EXPECT_TRUE(prompt[0].is_null());
  const auto generated = JsonView(answer, "output").at("logprobs").items();
  for (std::size_t i = 2; i < prompt.size(); ++i) {
    EXPECT_EQ(prompt[i].at("id").as_int(0, 1 << 30), ids[i]);
    EXPECT_EQ(prompt[i].at("logprob").as_number(), generated[i - 2].as_number()) << i;
    EXPECT_EQ(prompt[i].at("top").items().size(), 2u);
  }
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
  EXPECT_EQ(JsonView(plan, "output").at("quantize").as_string(), "none");
  EXPECT_THAT(run_peregrine({"inspect", kExample, "--config"}).out, HasSubstr("serving.properties"));
  const auto quantized = json_of(run_peregrine(
      {"inspect", kExample, "--plan", "--json", "--option", "kv_blocks=50", "--option", "quantize=int8"}));
  EXPECT_EQ(JsonView(quantized, "output").at("quantize").as_string(), "int8");
  EXPECT_EQ(JsonView(quantized, "output").at("compute_dtype").as_string(), "float32");
  // Its weights are bfloat16: half, and the scales.
  const auto bytes = [](const auto& facts) {
    return JsonView(facts, "output").at("weight_bytes").as_int(0, 1'000'000'000);
  };
  EXPECT_GT(bytes(quantized), bytes(plan) / 2);
  EXPECT_LT(bytes(quantized), bytes(plan) * 6 / 10);
  EXPECT_THAT(run_peregrine({"inspect", kExample, "--config", "--option", "quantize=dynamic_int8"}).out,
              HasSubstr("dynamic_int8 (--option)"));
}

TEST(Cli, WrongUsageIsRefusedByName) {
  expect_refused({"generate", kExample}, {"--prompt"});
  expect_refused({"generate", kExample, "--ids", "1,x"}, {"--ids", "'x'"});
  expect_refused({"generate", kExample, "--ids", "1,99999"}, {"99999", "2047"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "top_p=2"}, {"top_p", "2"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "temprature=1"},
                 {"temprature", "temperature"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "top_k"}, {"name=value"});
  expect_refused({"generate", kExample, "--ids", "1", "--param", "num_beams=0"}, {"num_beams"});
  expect_refused({"generate", kExample, "--ids", "1", "--stop", ""}, {"--stop"});
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
