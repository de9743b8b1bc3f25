// SPDX-License-Identifier: Apache-2.0
#include "api/sentence_transformers.h"

#include "encoder_fixture.h"

namespace peregrine::api {
namespace {

using generation::Pooling;
using ::testing::HasSubstr;

class SentenceTransformersTest : public EncoderTest {
 protected:
  void write_modules(const std::string& more = "",
                     const std::string& pooling = R"("pooling_mode_cls_token":true)") {
    write("modules.json",
          R"([{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},)"
          R"({"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"})" +
              more + "]");
    write("1_Pooling/config.json",
          R"({"word_embedding_dimension":4,"pooling_mode_max_tokens":false,)" + pooling + "}");
  }
  static constexpr const char* kNormalize =
      R"(,{"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"})";

  std::string refusal() {
    try {
      start(0);
    } catch (const core::Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "not refused";
    return "";
  }
};

TEST_F(SentenceTransformersTest, PoolingAndNormalization) {
  EXPECT_FALSE(read_sentence_transformers(directory_.path()).has_value());
  write_modules();
  start(0);
  good("/invocations", R"({"inputs":"a"})");
  EXPECT_EQ(requests().back().pooling, Pooling::kCls);
  EXPECT_FALSE(requests().back().normalize) << "there is no such module";
  write_modules(kNormalize, R"("pooling_mode_mean_tokens":true)");
  start(0);
  good("/invocations", R"({"inputs":"a"})");
  EXPECT_EQ(requests().back().pooling, Pooling::kMean);
  EXPECT_TRUE(requests().back().normalize);
  write_modules("", R"("pooling_mode_lasttoken":true)");
  configuration::ModelOptions options;
  options.normalize = true;
  start(0, options);
  good("/invocations", R"({"inputs":"a"})");
  EXPECT_EQ(requests().back().pooling, Pooling::kLast);
  EXPECT_TRUE(requests().back().normalize);
}

TEST_F(SentenceTransformersTest, WhatIsNotThereIsRefusedByName) {
  write_modules(R"(,{"path":"2_Dense","type":"sentence_transformers.models.Dense"})");
  EXPECT_THAT(refusal(), HasSubstr("sentence_transformers.models.Dense"));
  write_modules("", R"("pooling_mode_weightedmean_tokens":true)");
  EXPECT_THAT(refusal(), HasSubstr("weightedmean_tokens"));
  write_modules("", R"("pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true)");
  EXPECT_THAT(refusal(), HasSubstr("2 ways of pooling"));
  write_modules("", R"("pooling_mode_cls_token":false)");
  EXPECT_THAT(refusal(), HasSubstr("0 ways of pooling"));
  std::filesystem::remove(directory_.path() / "1_Pooling/config.json");
  EXPECT_THAT(refusal(), HasSubstr("1_Pooling/config.json is missing"));
  write("modules.json", R"([{"path":"../../x","type":"sentence_transformers.models.Pooling"}])");
  EXPECT_THAT(refusal(), HasSubstr("inside the model directory"));
  write("modules.json", R"([{"path":7}])");
  EXPECT_THAT(refusal(), HasSubstr("modules.json"));
  write("modules.json", "[");
  EXPECT_THAT(refusal(), HasSubstr("modules.json"));
  // A model that is served for something else does not need them.
  configuration::ModelOptions options;
  options.task = configuration::Task::kClassify;
  start(3, options);
}

TEST_F(SentenceTransformersTest, LengthAndTruncation) {
  write_modules();
  write("sentence_bert_config.json", R"({"max_seq_length":6,"do_lower_case":false})");
  start(0);
  EXPECT_THAT(bad("/invocations", R"({"inputs":"a b c a b c"})"),
              HasSubstr("8 tokens; model m takes at most 6"));
  write("tokenizer.json", testing::tiny_bert_tokenizer(4));
  start(0);
  good("/invocations", R"({"inputs":"a b c a b c"})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "a", "b", "c", "a", "[SEP]"}));
  EXPECT_EQ(ask("/invocations", R"({"inputs":"a b c a b c","truncate":false})").status(), 400);
  std::filesystem::remove(directory_.path() / "sentence_bert_config.json");
  start(0);
  good("/invocations", R"({"inputs":"a b c a b c"})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "a", "b", "[SEP]"}));
  // Without sentence-transformers' files nothing is cut that nobody asked for.
  std::filesystem::remove(directory_.path() / "modules.json");
  start(0);
  good("/invocations", R"({"inputs":"a b c a b c"})");
  EXPECT_EQ(requests().back().ids.size(), 8u);
}

TEST_F(SentenceTransformersTest, LowerCaseAndPrompts) {
  write_modules();
  start(0);
  good("/invocations", R"({"inputs":"CAT"})");
  EXPECT_EQ(requests().back().ids[1], 1) << "unknown in capitals";
  write("sentence_bert_config.json", R"({"max_seq_length":16,"do_lower_case":true})");
  write("config_sentence_transformers.json",
        R"({"prompts":{"query":"query: ","document":""},"default_prompt_name":null})");
  start(0);
  good("/invocations", R"({"inputs":"CAT"})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "cat", "[SEP]"}));
  good("/invocations", R"({"inputs":"CAT","parameters":{"prompt_name":"query"}})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "query", ":", "cat", "[SEP]"}));
  good("/v1/embeddings", R"({"input":"CAT","prompt_name":"query"})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "query", ":", "cat", "[SEP]"}));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"CAT","prompt_name":"nothing"})"),
              HasSubstr("prompt_name must be one of 'document', 'query'"));
  write("config_sentence_transformers.json",
        R"({"prompts":{"query":"query: "},"default_prompt_name":"query"})");
  start(0);
  good("/invocations", R"({"inputs":"CAT"})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "query", ":", "cat", "[SEP]"}));
  write("config_sentence_transformers.json",
        R"({"prompts":{"query":"query: "},"default_prompt_name":"other"})");
  EXPECT_THAT(refusal(), HasSubstr("default_prompt_name"));
  write("config_sentence_transformers.json",
        R"({"prompts":{"query":"query: "},"default_prompt_name":"query"})");
  write_modules("", R"("pooling_mode_mean_tokens":true,"include_prompt":false)");
  EXPECT_THAT(refusal(), HasSubstr("include_prompt"));
}

}  // namespace
}  // namespace peregrine::api
