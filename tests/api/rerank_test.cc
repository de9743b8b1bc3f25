// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <cmath>

#include "encoder_fixture.h"

namespace peregrine::api {
namespace {

using ::testing::HasSubstr;

double sigmoid_of(double score) { return 1 / (1 + std::exp(-score)); }

/// The score of a pair is its number of tokens less 6: "a", "b" is -1, and each further word one more.
class RerankTest : public EncoderTest {
 protected:
  RerankTest() { start(1); }
};

TEST_F(RerankTest, LmiScoresPairsInTheirOrder) {
  const auto answer = boost::json::parse(
      good("/invocations",
           R"([{"key":"a","value":"b"},{"key":"a","value":"the cat sat"},{"key":"a b","value":"c"}])"));
  ASSERT_EQ(answer.as_array().size(), 3u);
  EXPECT_NEAR(answer.at(0).to_number<double>(), sigmoid_of(-1), 1e-6);
  EXPECT_NEAR(answer.at(1).to_number<double>(), sigmoid_of(1), 1e-6);
  EXPECT_NEAR(answer.at(2).to_number<double>(), sigmoid_of(0), 1e-6);
  EXPECT_EQ(requests()[0].ids, ids({"[CLS]", "a", "[SEP]", "b", "[SEP]"}));
  EXPECT_EQ(requests()[0].token_types, (std::vector<std::int32_t>{0, 0, 0, 1, 1}));
  EXPECT_EQ(requests()[0].kind, generation::EncodeKind::kClassify);
  for (const char* body : {R"({"inputs":[{"key":"a","value":"b"}]})", R"({"inputs":{"key":"a","value":"b"}})",
                           R"({"key":"a","value":"b"})"}) {
    EXPECT_EQ(boost::json::parse(good("/invocations", body)).as_array().size(), 1u);
  }
  EXPECT_EQ(good("/invocations", R"({"inputs":{"key":"a","value":"b"},"parameters":{"raw_scores":true}})"),
            "[-1]\n");
  EXPECT_THAT(bad("/invocations", R"([{"key":"a","value":"b"},{"key":"a"}])"),
              HasSubstr("inputs[1].value is missing"));
  EXPECT_THAT(bad("/invocations", R"([{"key":"a","value":"b"},"c"])"), HasSubstr("inputs[1]"));
}

TEST_F(RerankTest, TextsOfAOneLabelModelAreClassifiedBySigmoid) {
  const auto answer = boost::json::parse(good("/invocations", R"({"inputs":"a"})"));
  EXPECT_EQ(answer.at(0).at("label"), "NEGATIVE");
  EXPECT_NEAR(answer.at(0).at("score").to_number<double>(), sigmoid_of(-3), 1e-6);
}

TEST_F(RerankTest, CohereAndVllm) {
  const std::string body = R"({"model":"m","query":"a","documents":["b","the cat sat",{"text":"c cats"}])";
  for (const char* path : {"/v1/rerank", "/rerank", "/v2/rerank", "/invocations"}) {
    const auto answer = boost::json::parse(good(path, body + "}"));
    const auto& results = answer.at("results").as_array();
    ASSERT_EQ(results.size(), 3u) << path;
    EXPECT_EQ(results[0].at("index"), 1);
    EXPECT_EQ(results[0].at("document").at("text"), "the cat sat");
    EXPECT_NEAR(results[0].at("relevance_score").to_number<double>(), sigmoid_of(1), 1e-6);
    EXPECT_EQ(results[1].at("index"), 2) << "equal ones in their order";
    EXPECT_EQ(results[2].at("index"), 0);
    EXPECT_EQ(answer.at("model"), "m");
    EXPECT_EQ(answer.at("usage").at("total_tokens"), 5 + 7 + 7);
    EXPECT_TRUE(answer.at("id").as_string().starts_with("rerank-"));
  }
  auto answer = boost::json::parse(good("/v1/rerank", body + R"(,"top_n":1,"return_documents":false})"));
  ASSERT_EQ(answer.at("results").as_array().size(), 1u);
  EXPECT_FALSE(answer.at("results").at(0).as_object().contains("document"));
  answer = boost::json::parse(good("/v1/rerank", body + R"(,"top_n":0})"));
  EXPECT_EQ(answer.at("results").as_array().size(), 3u);
  EXPECT_THAT(bad("/v1/rerank", R"({"documents":["a"]})"), HasSubstr("query is missing"));
  EXPECT_THAT(bad("/v1/rerank", R"({"query":"a"})"), HasSubstr("documents is missing"));
  EXPECT_THAT(bad("/v1/rerank", R"({"query":"a","documents":[]})"), HasSubstr("1 to 2048"));
  EXPECT_THAT(bad("/v1/rerank", R"({"query":"a","documents":["a",7]})"), HasSubstr("documents[1]"));
}

TEST_F(RerankTest, Tei) {
  const std::string body = R"({"query":"a","texts":["b","the cat sat"])";
  auto answer = boost::json::parse(good("/rerank", body + "}"));
  ASSERT_EQ(answer.as_array().size(), 2u);
  EXPECT_EQ(answer.at(0).at("index"), 1);
  EXPECT_NEAR(answer.at(0).at("score").to_number<double>(), sigmoid_of(1), 1e-6);
  EXPECT_FALSE(answer.at(0).as_object().contains("text"));
  answer = boost::json::parse(good("/rerank", body + R"(,"raw_scores":true,"return_text":true})"));
  EXPECT_EQ(answer.at(0).at("score").to_number<double>(), 1);
  EXPECT_EQ(answer.at(1).at("text"), "b");
  EXPECT_THAT(bad("/rerank", body + R"(,"truncation_direction":"Left"})"), HasSubstr("truncation_direction"));
}

TEST_F(RerankTest, TooLongPairs) {
  std::string words;
  for (int i = 0; i < 20; ++i) words += "cat ";
  const std::string body = R"({"query":"a","documents":["b",")" + words + "\"]";
  EXPECT_THAT(bad("/v1/rerank", body + "}"),
              HasSubstr("documents[1] has 24 tokens; model m takes at most 16"));
  good("/v1/rerank", body + R"(,"truncate_prompt_tokens":-1})");
  EXPECT_EQ(requests().back().ids.size(), 16u);
  EXPECT_EQ(requests().back().ids[1], testing::tiny_id("a")) << "the longer one is cut";
}

TEST_F(RerankTest, TheModelsOwnActivation) {
  write("config.json", R"({"architectures":["BertForSequenceClassification"],"type_vocab_size":2,)"
                       R"("sbert_ce_default_activation_function":"torch.nn.modules.linear.Identity"})");
  start(1);
  EXPECT_EQ(good("/invocations", R"([{"key":"a","value":"b"}])"), "[-1]\n");
  const auto answer = boost::json::parse(good("/v1/rerank", R"({"query":"a","documents":["b"]})"));
  EXPECT_EQ(answer.at("results").at(0).at("relevance_score").to_number<double>(), -1);
  // TEI always gives probabilities.
  EXPECT_NEAR(boost::json::parse(good("/rerank", R"({"query":"a","texts":["b"]})"))
                  .at(0)
                  .at("score")
                  .to_number<double>(),
              sigmoid_of(-1), 1e-6);
  write("config.json", R"({"architectures":["BertForSequenceClassification"],)"
                       R"("sentence_transformers":{"activation_fn":"torch.nn.modules.activation.Tanh"}})");
  EXPECT_THROW(start(1), core::Error);
}

}  // namespace
}  // namespace peregrine::api
