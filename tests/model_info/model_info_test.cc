// SPDX-License-Identifier: Apache-2.0
#include "model_info/model_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "core/error.h"
#include "support/test_data.h"

namespace peregrine::model_info {
namespace {

using core::DType;
using core::ErrorKind;
using peregrine::testing::TemporaryDirectory;
using peregrine::testing::test_data;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;

ModelInfo parse(std::string_view config, std::optional<std::string_view> generation = std::nullopt) {
  return ModelDirectory::parse("/models/x", config, generation).info();
}

/// The message of the error, which must be of `kind`.
template <typename Function>
std::string refused(ErrorKind kind, Function&& function) {
  try {
    function();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

std::string config_error(const std::string& members) {
  const std::string text = R"({"architectures": ["A"])" + (members.empty() ? "" : ", " + members) + "}";
  return refused(ErrorKind::kInvalidArgument, [&] { parse(text); });
}

TEST(ModelInfo, ReadsTheFactsOfBothFiles) {
  const auto info = parse(
      R"({"architectures": ["FalconForCausalLM", "Other"], "model_type": "falcon", "torch_dtype": "bfloat16",
          "vocab_size": 65024, "bos_token_id": 11, "eos_token_id": 11, "pad_token_id": 3, "tie_word_embeddings": false})",
      R"({"bos_token_id": 1, "eos_token_id": [2, 114, 2], "temperature": 0.5, "decoder_start_token_id": 0})");
  EXPECT_EQ(info.architecture, "FalconForCausalLM");
  EXPECT_EQ(info.model_type, "falcon");
  EXPECT_EQ(info.torch_dtype, DType::kBF16);
  EXPECT_EQ(info.vocab_size, 65024);
  EXPECT_EQ(info.bos_token_id, 1);
  EXPECT_EQ(info.pad_token_id, 3);  // generation_config.json does not say
  EXPECT_EQ(info.decoder_start_token_id, 0);
  EXPECT_THAT(info.eos_token_ids, ElementsAre(2, 114));
  EXPECT_EQ(info.tie_word_embeddings, false);
  EXPECT_EQ(info.generation.temperature, 0.5);
}

TEST(ModelInfo, EverythingButTheArchitectureMayBeMissing) {
  const auto info =
      parse(R"({"model_type": "gpt_neox", "vocab_size": null, "eos_token_id": null, "torch_dtype": null})");
  EXPECT_EQ(info.architecture, "gpt_neox");
  EXPECT_EQ(info.torch_dtype, std::nullopt);
  EXPECT_EQ(info.vocab_size, std::nullopt);
  EXPECT_EQ(info.bos_token_id, std::nullopt);
  EXPECT_EQ(info.pad_token_id, std::nullopt);
  EXPECT_EQ(info.decoder_start_token_id, std::nullopt);
  EXPECT_EQ(info.tie_word_embeddings, std::nullopt);
  EXPECT_THAT(info.eos_token_ids, IsEmpty());
  EXPECT_EQ(parse(R"({"architectures": [], "model_type": "t5"})").architecture, "t5");
  EXPECT_EQ(parse(R"({"architectures": null, "model_type": "t5"})").architecture, "t5");
  EXPECT_EQ(parse(R"({"architectures": ["X"]})").model_type, "");
}

TEST(ModelInfo, EosIsOneIdOrAListFromGenerationConfigFirst) {
  const char* config = R"({"model_type": "x", "eos_token_id": [7, 8]})";
  EXPECT_THAT(parse(config).eos_token_ids, ElementsAre(7, 8));
  EXPECT_THAT(parse(config, "{}").eos_token_ids, ElementsAre(7, 8));
  EXPECT_THAT(parse(config, R"({"eos_token_id": null})").eos_token_ids, ElementsAre(7, 8));
  EXPECT_THAT(parse(config, R"({"eos_token_id": 5})").eos_token_ids, ElementsAre(5));
  EXPECT_THAT(parse(config, R"({"eos_token_id": []})").eos_token_ids, IsEmpty());
  EXPECT_THAT(parse(R"({"model_type": "x", "eos_token_id": -1, "pad_token_id": -1})").eos_token_ids,
              IsEmpty());
  EXPECT_EQ(parse(R"({"model_type": "x", "pad_token_id": -1})").pad_token_id, std::nullopt);
}

TEST(ModelInfo, DataTypesHaveSeveralSpellings) {
  const auto dtype = [](const std::string& member) {
    return parse("{\"model_type\": \"x\", " + member + "}").torch_dtype;
  };
  EXPECT_EQ(dtype(R"("torch_dtype": "float32")"), DType::kF32);
  EXPECT_EQ(dtype(R"("torch_dtype": "torch.float16")"), DType::kF16);
  EXPECT_EQ(dtype(R"("dtype": "bfloat16")"), DType::kBF16);
  EXPECT_EQ(dtype(R"("torch_dtype": "float16", "dtype": "float32")"), DType::kF16);
  EXPECT_EQ(dtype(R"("torch_dtype": "float64")"), DType::kF64);
  EXPECT_EQ(dtype(R"("torch_dtype": "auto")"), std::nullopt);
  EXPECT_THAT(config_error(R"("torch_dtype": "float33")"),
              HasSubstr("/models/x/config.json: 'torch_dtype' must be float32, float16, bfloat16 or float64, "
                        "found the string 'float33'"));
  EXPECT_THAT(config_error(R"("dtype": 32)"), HasSubstr("'dtype' must be a string, found 32"));
}

TEST(ModelInfo, WrongTypesNameFileAndKey) {
  EXPECT_EQ(config_error(""), "no error");
  for (const char* value : {"0", "-1", "1.5", "\"7\"", "[]", "2147483648", "18446744073709551615"}) {
    EXPECT_THAT(
        config_error(std::string("\"vocab_size\": ") + value),
        HasSubstr("/models/x/config.json: 'vocab_size' must be an integer from 1 to 2147483647, found "));
  }
  for (const char* key : {"bos_token_id", "pad_token_id", "decoder_start_token_id"}) {
    for (const char* value :
         {"-2", "1.0", "\"7\"", "[1]", "{}", "true", "2147483648", "18446744073709551615"}) {
      EXPECT_THAT(
          config_error(fmt::format("\"{}\": {}", key, value)),
          HasSubstr(fmt::format("config.json: '{}' must be an integer from 0 to 2147483647, found ", key)));
    }
  }
  EXPECT_THAT(config_error(R"("eos_token_id": "</s>")"),
              HasSubstr("'eos_token_id' must be a token id or a list of token ids"));
  EXPECT_THAT(config_error(R"("eos_token_id": -2)"),
              HasSubstr("'eos_token_id' must be an integer from 0 to 2147483647, found -2"));
  EXPECT_THAT(config_error(R"("eos_token_id": [1, "a"])"),
              HasSubstr("'eos_token_id'[1] must be an integer from 0"));
  EXPECT_THAT(config_error(R"("tie_word_embeddings": 1)"),
              HasSubstr("'tie_word_embeddings' must be true or false, found 1"));
  EXPECT_THAT(config_error(R"("model_type": ["x"])"),
              HasSubstr("'model_type' must be a string, found an array"));
  const auto whole = [](std::string_view text) {
    return refused(ErrorKind::kInvalidArgument, [&] { parse(text); });
  };
  EXPECT_THAT(whole("{}"),
              HasSubstr("config.json: neither 'architectures' nor 'model_type' says what the model is"));
  EXPECT_THAT(whole(R"({"architectures": "A"})"),
              HasSubstr("'architectures' must be a list of names, found the string 'A'"));
  EXPECT_THAT(whole(R"({"architectures": [5]})"), HasSubstr("'architectures'[0] must be a string, found 5"));
  EXPECT_THAT(whole(R"({"architectures": [""]})"),
              HasSubstr("'architectures'[0] must be the name of an architecture"));
  EXPECT_THAT(whole("[]"), HasSubstr("config.json must be an object, found an array of 0 elements"));
  EXPECT_THAT(whole("null"), HasSubstr("config.json must be an object, found null"));
  EXPECT_THAT(whole(""), HasSubstr("/models/x/config.json: not valid JSON at byte 0"));
  EXPECT_THAT(whole("{\"model_type\": \"x\""), HasSubstr("/models/x/config.json: not valid JSON at byte"));
  const auto generation = [](std::string_view text) {
    return refused(ErrorKind::kInvalidArgument, [&] { parse(R"({"model_type": "x"})", text); });
  };
  EXPECT_THAT(generation("[]"), HasSubstr("/models/x/generation_config.json must be an object"));
  EXPECT_THAT(generation("{"), HasSubstr("/models/x/generation_config.json: not valid JSON"));
  EXPECT_THAT(generation(R"({"top_k": "x"})"),
              HasSubstr("/models/x/generation_config.json: 'top_k' must be an integer"));
  EXPECT_THAT(generation(R"({"eos_token_id": 1.5})"),
              HasSubstr("/models/x/generation_config.json: 'eos_token_id' must be"));
}

/// As in Python, whose json keeps the last: there are published configs with a key given twice.
TEST(ModelInfo, TheLastOfTwoEqualKeysCounts) {
  EXPECT_EQ(parse(R"({"model_type": "x", "vocab_size": 5, "vocab_size": 6})").vocab_size, 6);
  std::string many = R"({"model_type": "x", "vocab_size": 5)";
  for (int i = 0; i < 100; ++i) many += fmt::format(R"(, "key{}": {})", i, i);
  EXPECT_EQ(parse(many + R"(, "vocab_size": 6})").vocab_size, 6);
}

TEST(ModelInfo, MillionsOfEndIdsAreReadAtOnce) {
  std::string list = "[0";
  for (int i = 1; i < 1000000; ++i) list += "," + std::to_string(i);
  EXPECT_EQ(parse(R"({"model_type": "x", "eos_token_id": )" + list + "]}").eos_token_ids.size(), 1000000u);
}

TEST(ModelDirectory, KeepsTheDocumentThroughMovesAndCopies) {
  std::optional<ModelDirectory> original =
      ModelDirectory::parse("/m", R"({"model_type": "x", "deep": {"n": 3}})", {});
  const core::JsonView view = original->config();
  const ModelDirectory copy = *original;
  const ModelDirectory moved = std::move(*original);
  original.reset();
  EXPECT_EQ(view.at("deep").at("n").as_int(0, 9), 3);
  EXPECT_EQ(&copy.config().value(), &moved.config().value());
  EXPECT_EQ(moved.config().where(), "/m/config.json");
  EXPECT_EQ(moved.path(), "/m");
}

void write(const fs::path& path, std::string_view text) { std::ofstream(path) << text; }

TEST(ModelDirectory, FilesThatAreMissingOrUnreadableAreNamed) {
  const TemporaryDirectory directory;
  const auto open = [&](ErrorKind kind) {
    return refused(kind, [&] { ModelDirectory::open(directory.path()); });
  };
  EXPECT_THAT(refused(ErrorKind::kNotFound, [&] { ModelDirectory::open(directory.path() / "no"); }),
              HasSubstr("/no does not exist or is not a directory"));
  EXPECT_THAT(open(ErrorKind::kNotFound), AllOf(HasSubstr("config.json"), HasSubstr("No such file")));
  write(directory.path() / "config.json", R"({"model_type": "x", "eos_token_id": 9})");
  EXPECT_THAT(ModelDirectory::open(directory.path()).info().eos_token_ids, ElementsAre(9));
  write(directory.path() / "generation_config.json", R"({"eos_token_id": 8})");
  EXPECT_THAT(ModelDirectory::open(directory.path()).info().eos_token_ids, ElementsAre(8));
  EXPECT_EQ(ModelDirectory::open(directory.path()).path(), directory.path());

  fs::remove(directory.path() / "generation_config.json");
  fs::create_symlink("nowhere", directory.path() / "generation_config.json");
  EXPECT_THAT(open(ErrorKind::kNotFound), HasSubstr("generation_config.json: No such file"));
  fs::remove(directory.path() / "generation_config.json");
  fs::create_directory(directory.path() / "generation_config.json");
  EXPECT_THAT(open(ErrorKind::kInvalidArgument), HasSubstr("generation_config.json is not a regular file"));
  fs::remove(directory.path() / "generation_config.json");
  fs::resize_file(directory.path() / "config.json", (16 << 20) + 1);
  EXPECT_THAT(open(ErrorKind::kInvalidArgument),
              HasSubstr("config.json has 16777217 bytes; at most 16777216 are read"));
}

TEST(ModelDirectory, EveryTruncationAndFlippedBitIsAnErrorOrAModel) {
  const std::string config =
      R"({"architectures":["A"],"torch_dtype":"float32","vocab_size":131,"eos_token_id":[2,3],"tie_word_embeddings":true})";
  const std::string generation =
      R"({"eos_token_id":[2,114],"top_p":0.9,"bad_words_ids":[[1],[2,3]],"early_stopping":true})";
  int cases = 0, errors = 0;
  const auto check = [&](const std::string& a, const std::string& b) {
    ++cases;
    try {
      parse(a, b);
    } catch (const core::Error& error) {
      EXPECT_EQ(core::exit_code(error.kind()), 2);
      EXPECT_THAT(error.what(), HasSubstr("config.json"));
      ++errors;
    }
  };
  for (std::size_t i = 0; i < config.size(); ++i) check(config.substr(0, i), generation);
  for (std::size_t i = 0; i < generation.size(); ++i) check(config, generation.substr(0, i));
  EXPECT_EQ(errors, cases);
  const auto flipped = [](std::string text, std::size_t bit) {
    text[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    return text;
  };
  for (std::size_t bit = 0; bit < config.size() * 8; ++bit) check(flipped(config, bit), generation);
  for (std::size_t bit = 0; bit < generation.size() * 8; ++bit) check(config, flipped(generation, bit));
  EXPECT_GT(cases, 1500);
}

TEST(ModelDirectory, GoldenModelsAreRead) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  std::set<std::string> architectures;
  int read = 0;
  for (const auto& entry : fs::directory_iterator(test_data() / "golden")) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    SCOPED_TRACE(entry.path().filename().string());
    const auto directory = ModelDirectory::open(entry.path());
    const auto& info = directory.info();
    architectures.insert(info.architecture);
    EXPECT_FALSE(info.model_type.empty());
    EXPECT_TRUE(info.torch_dtype.has_value());
    EXPECT_GE(info.vocab_size.value(), 97);
    EXPECT_TRUE(info.pad_token_id.has_value());
    EXPECT_TRUE(!info.eos_token_ids.empty() || !fs::exists(entry.path() / "generation_config.json"));
    ++read;
  }
  EXPECT_GE(read, 60);
  EXPECT_THAT(architectures,
              ::testing::IsSupersetOf({"FalconForCausalLM", "LlamaForCausalLM", "GPTNeoXForCausalLM",
                                       "T5ForConditionalGeneration", "BertModel"}));
  // Its generation_config.json has other end tokens than its config.json.
  const auto llama = ModelDirectory::open(test_data() / "golden/llama_gqa");
  EXPECT_THAT(llama.info().eos_token_ids, ElementsAre(2, 114));
  EXPECT_EQ(llama.config().at("eos_token_id").as_int(0, 1000), 2);
  EXPECT_EQ(llama.info().torch_dtype, DType::kF32);
}

}  // namespace
}  // namespace peregrine::model_info
