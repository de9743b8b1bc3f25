// SPDX-License-Identifier: Apache-2.0
#include "configuration/model_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "support/test_data.h"

namespace peregrine::configuration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

/// A model directory with this serving.properties.
class ModelOptionsTest : public ::testing::Test {
 protected:
  ModelOptions read(const std::string& properties, const std::vector<std::string>& overrides = {}) {
    std::ofstream(folder_.path() / "serving.properties") << properties;
    return read_model_options(folder_.path(), overrides);
  }

  std::string refusal(const std::string& properties, core::ErrorKind kind) {
    try {
      read(properties);
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "accepted: " << properties;
    return "";
  }

  const TemporaryDirectory folder_;
};

TEST_F(ModelOptionsTest, ReadsLmiKeys) {
  const ModelOptions options = read(
      "engine=MPI\n"
      "option.dtype=bf16\n"
      "option.compute_dtype = fp32\n"
      "option.rolling_batch=lmi-dist\n"
      "option.max_rolling_batch_size=64\n"
      "option.max_rolling_batch_prefill_tokens=1088\n"
      "option.tensor_parallel_degree=max\n"
      "option.output_formatter=jsonlines\n"
      "option.model_loading_timeout=1200\n"
      "option.entryPoint=djl_python.deepspeed\n"
      "option.trust_remote_code=true\n"
      "job_queue_size=7\n");
  EXPECT_EQ(options.dtype, core::DType::kBF16);
  EXPECT_EQ(options.compute_dtype, core::DType::kF32);
  EXPECT_EQ(options.max_rolling_batch_size, 64);
  EXPECT_EQ(options.max_rolling_batch_prefill_tokens, 1088);
  EXPECT_EQ(options.output_formatter, OutputFormatter::kJsonLines);
  EXPECT_EQ(options.model_loading_timeout.count(), 1200);
  EXPECT_EQ(options.job_queue_size, 7);
  for (const Setting& setting : options.settings) {
    EXPECT_NE(setting.key, "option.trust_remote_code") << "has no effect, so it is not passed on";
    EXPECT_THAT(setting.origin, HasSubstr("serving.properties"));
  }
}

TEST_F(ModelOptionsTest, OverridesWinWithAndWithoutPrefix) {
  const ModelOptions options =
      read("option.dtype=bf16\njob_queue_size=7\n", {"dtype=fp16", "option.kv_blocks=9", "job_queue_size=3"});
  EXPECT_EQ(options.dtype, core::DType::kF16);
  EXPECT_EQ(options.kv_blocks, 9);
  EXPECT_EQ(options.job_queue_size, 3);
  EXPECT_EQ(options.settings.back().origin, "--option");
}

TEST_F(ModelOptionsTest, SettingsGiveTheSameOptionsAgain) {
  const ModelOptions first =
      read("option.dtype=bf16\noption.max_model_len=77\n", {"dtype=auto", "cpu_threads=3"});
  const ModelOptions second = apply_settings(first.settings);
  EXPECT_EQ(second.dtype, std::nullopt);
  EXPECT_EQ(second.max_model_len, 77);
  EXPECT_EQ(second.cpu_threads, 3);
}

TEST_F(ModelOptionsTest, WrongValuesAreRefusedByName) {
  const auto invalid = core::ErrorKind::kInvalidArgument;
  EXPECT_THAT(refusal("option.dtype=int3", invalid),
              AllOf(HasSubstr("option.dtype"), HasSubstr("int3"), HasSubstr("bf16")));
  EXPECT_THAT(refusal("option.max_rolling_batch_size=0", invalid),
              AllOf(HasSubstr("option.max_rolling_batch_size"), HasSubstr("1 to 4096")));
  EXPECT_THAT(refusal("job_queue_size=many", invalid), HasSubstr("job_queue_size"));
  EXPECT_THAT(refusal("option.rolling_batch=vlm", invalid), AllOf(HasSubstr("vlm"), HasSubstr("vllm")));
  EXPECT_THAT(refusal("engine=TensorFlow", invalid), AllOf(HasSubstr("engine"), HasSubstr("DeepSpeed")));
  EXPECT_THAT(refusal("option.output_formatter=xml", invalid), HasSubstr("jsonlines"));
  EXPECT_THAT(refusal("option.kv_cache_dtype=int4", invalid),
              AllOf(HasSubstr("option.kv_cache_dtype"), HasSubstr("int4"), HasSubstr("int8")));
}

TEST_F(ModelOptionsTest, TypesOfTheCache) {
  const auto type = [&](const std::string& name) {
    return read("option.kv_cache_dtype=" + name).kv_cache_dtype;
  };
  EXPECT_EQ(type("auto"), std::nullopt);
  EXPECT_EQ(type("fp32"), core::DType::kF32);
  EXPECT_EQ(type("bf16"), core::DType::kBF16);
  EXPECT_EQ(type("int8"), core::DType::kI8);
  for (const char* name : {"fp8", "fp8_e4m3", "fp8_e5m2", "fp16"}) {
    EXPECT_THAT(refusal(std::string("option.kv_cache_dtype=") + name, core::ErrorKind::kUnsupported),
                AllOf(HasSubstr("option.kv_cache_dtype"), HasSubstr(name), HasSubstr("int8")));
  }
}

TEST_F(ModelOptionsTest, MisspeltKeysGetASuggestion) {
  const auto invalid = core::ErrorKind::kInvalidArgument;
  EXPECT_THAT(refusal("option.compute_dtpe=fp32", invalid), HasSubstr("did you mean option.compute_dtype?"));
  EXPECT_THAT(refusal("job_queue_sise=5", invalid), HasSubstr("did you mean job_queue_size?"));
  EXPECT_THAT(refusal("model_id=x", invalid), HasSubstr("did you mean option.model_id?"));
}

TEST_F(ModelOptionsTest, WhatWouldChangeAnswersIsRefused) {
  const auto unsupported = core::ErrorKind::kUnsupported;
  for (const char* line :
       {"option.tensor_parallel_degree=2", "option.quantize=awq", "option.load_in_4bit=true",
        "option.dtype=int8", "option.rolling_batch=disable", "option.enable_lora=true",
        "option.tgi_compat=true", "option.entryPoint=model.py", "batch_size=8", "option.load_in_8bit=True",
        "option.task=question-answering", "option.pooling=weightedmean"}) {
    const std::string message = refusal(line, unsupported);
    EXPECT_THAT(message, HasSubstr(std::string(line).substr(0, std::string(line).find('='))));
  }
  EXPECT_NO_THROW(read("option.enable_lora=False\nbatch_size=1\noption.tensor_parallel_degree=1\n"));
}

TEST_F(ModelOptionsTest, QuantizeHasLmisNames) {
  using core::Quantization;
  const auto quantize = [&](const std::string& name) {
    return read("option.quantize=" + name + "\n").quantize;
  };
  EXPECT_EQ(read("").quantize, Quantization::kNone);
  for (const char* name : {"", "none", "None"}) EXPECT_EQ(quantize(name), Quantization::kNone) << name;
  for (const char* name : {"int8", "INT8", "dynamic_int8", "static_int8", "bitsandbytes8", "BitsAndBytes8"}) {
    EXPECT_EQ(quantize(name), Quantization::kInt8) << name;
  }
  EXPECT_EQ(read("option.quantize=int8\n", {"quantize=none"}).quantize, Quantization::kNone);
  const ModelOptions first = read("option.quantize=dynamic_int8\noption.dtype=bf16\n");
  EXPECT_EQ(apply_settings(first.settings).quantize, Quantization::kInt8);
  EXPECT_EQ(first.dtype, core::DType::kBF16) << "what arithmetic follows";
  // Each says what there is.
  for (const char* name :
       {"awq", "gptq", "fp8", "bitsandbytes", "bitsandbytes4", "smoothquant", "squeezellm"}) {
    EXPECT_THAT(refusal(std::string("option.quantize=") + name, core::ErrorKind::kUnsupported),
                AllOf(HasSubstr("option.quantize"), HasSubstr(name), HasSubstr("int8"), HasSubstr("none")));
  }
  EXPECT_THAT(refusal("option.quantize=int9", core::ErrorKind::kInvalidArgument),
              AllOf(HasSubstr("option.quantize"), HasSubstr("int9"), HasSubstr("int8")));
  for (const char* line : {"option.load_in_8bit=true", "option.dtype=int8"}) {
    EXPECT_THAT(refusal(line, core::ErrorKind::kUnsupported), HasSubstr("option.quantize=int8"));
  }
}

TEST_F(ModelOptionsTest, TasksOfEncoders) {
  const auto task = [&](const std::string& name) { return read("option.task=" + name + "\n").task; };
  EXPECT_EQ(read("").task, Task::kAuto);
  EXPECT_EQ(task("auto"), Task::kAuto);
  EXPECT_EQ(task("text-generation"), Task::kGenerate);
  EXPECT_EQ(task("text2text-generation"), Task::kGenerate);
  for (const char* name : {"text-embedding", "feature-extraction"}) EXPECT_EQ(task(name), Task::kEmbed);
  for (const char* name : {"text-classification", "classify"}) EXPECT_EQ(task(name), Task::kClassify);
  for (const char* name : {"rerank", "sentence-similarity"}) EXPECT_EQ(task(name), Task::kRerank);
  EXPECT_FALSE(read("").normalize.has_value());
  EXPECT_EQ(read("option.normalize=False\n").normalize, false);
  EXPECT_EQ(read("option.normalize=true\n").normalize, true);
  EXPECT_EQ(read("option.pooling=cls\n").pooling, "cls");
  EXPECT_EQ(read("option.pooling=last\n").pooling, "lasttoken");
  const auto invalid = core::ErrorKind::kInvalidArgument;
  EXPECT_THAT(refusal("option.pooling=first", invalid), HasSubstr("mean, cls or lasttoken"));
  EXPECT_THAT(refusal("option.normalize=yes", invalid), HasSubstr("true or false"));
}

TEST_F(ModelOptionsTest, ModelIdIsALocalDirectory) {
  ModelOptions options;
  EXPECT_EQ(model_files(folder_.path(), options), folder_.path());
  options.model_id = folder_.path().string();
  EXPECT_EQ(model_files("/elsewhere", options), folder_.path());
  options.model_id = "tiiuae/falcon-7b";
  try {
    model_files(folder_.path(), options);
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("tiiuae/falcon-7b"));
  }
}

}  // namespace
}  // namespace peregrine::configuration
