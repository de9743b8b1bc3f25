// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <cmath>

#include "encoder_fixture.h"

namespace peregrine::api {
namespace {

using ::testing::HasSubstr;

/// The class with score 2 is the first word's id modulo 3: "a" is 5, so POSITIVE; "b" NEGATIVE; "c" NEUTRAL.
class ClassificationTest : public EncoderTest {
 protected:
  const double high_ = std::exp(2.0) / (std::exp(2.0) + 2);
  const double low_ = 1 / (std::exp(2.0) + 2);
};

TEST_F(ClassificationTest, TheBestLabelOfEachText) {
  start(3);
  auto answer = boost::json::parse(good("/invocations", R"({"inputs":"a cat"})"));
  ASSERT_EQ(answer.as_array().size(), 1u);
  EXPECT_EQ(answer.at(0).at("label"), "POSITIVE");
  EXPECT_NEAR(answer.at(0).at("score").to_number<double>(), high_, 1e-6);
  EXPECT_EQ(requests()[0].kind, generation::EncodeKind::kClassify);
  answer = boost::json::parse(good("/invocations", R"({"inputs":["a","b","c"]})"));
  ASSERT_EQ(answer.as_array().size(), 3u);
  EXPECT_EQ(answer.at(1).at("label"), "NEGATIVE");
  EXPECT_EQ(answer.at(2).at("label"), "NEUTRAL");
}

TEST_F(ClassificationTest, TopKAsTransformersHasIt) {
  start(3);
  const auto ask_top = [&](const std::string& inputs, const std::string& top) {
    return boost::json::parse(
        good("/invocations", "{\"inputs\":" + inputs + ",\"parameters\":{\"top_k\":" + top + "}}"));
  };
  auto answer = ask_top("\"a\"", "2");
  ASSERT_EQ(answer.as_array().size(), 2u);
  EXPECT_EQ(answer.at(0).at("label"), "POSITIVE");
  EXPECT_EQ(answer.at(1).at("label"), "NEGATIVE") << "of equal ones the first";
  EXPECT_NEAR(answer.at(1).at("score").to_number<double>(), low_, 1e-6);
  EXPECT_EQ(ask_top("\"a\"", "null").as_array().size(), 3u);
  EXPECT_EQ(ask_top("\"a\"", "100").as_array().size(), 3u);
  answer = ask_top("[\"a\",\"b\"]", "null");
  ASSERT_EQ(answer.as_array().size(), 2u);
  EXPECT_EQ(answer.at(1).as_array().size(), 3u);
  EXPECT_EQ(ask_top("[\"a\"]", "1").at(0).as_array().size(), 1u);
  answer =
      boost::json::parse(good("/invocations", R"({"inputs":"a","parameters":{"return_all_scores":true}})"));
  EXPECT_EQ(answer.at(0).as_array().size(), 3u);
}

TEST_F(ClassificationTest, FunctionsOfTheScores) {
  start(3);
  const auto score = [&](const std::string& parameters) {
    const auto answer =
        boost::json::parse(good("/invocations", "{\"inputs\":\"a\",\"parameters\":{" + parameters + "}}"));
    return answer.at(0).at("score").to_number<double>();
  };
  EXPECT_NEAR(score(R"("function_to_apply":"softmax")"), high_, 1e-6);
  EXPECT_NEAR(score(R"("function_to_apply":"sigmoid")"), 1 / (1 + std::exp(-2.0)), 1e-6);
  EXPECT_EQ(score(R"("function_to_apply":"none")"), 2);
  write("config.json",
        R"({"architectures":["BertForSequenceClassification"],"problem_type":"multi_label_classification"})");
  start(3);
  EXPECT_NEAR(score(""), 1 / (1 + std::exp(-2.0)), 1e-6);
  EXPECT_THAT(good("/invocations", R"({"inputs":"a"})"), HasSubstr("LABEL_2"));
  write("config.json", R"({"architectures":["BertForSequenceClassification"],"problem_type":"regression"})");
  start(3);
  EXPECT_EQ(score(""), 2);
}

TEST_F(ClassificationTest, PairsOfTexts) {
  start(3);
  good("/invocations", R"({"inputs":[{"text":"a cat","text_pair":"the dog"},"b",{"text":"c"}]})");
  EXPECT_EQ(requests()[0].ids, ids({"[CLS]", "a", "cat", "[SEP]", "the", "dog", "[SEP]"}));
  EXPECT_EQ(requests()[0].token_types, (std::vector<std::int32_t>{0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(requests()[2].ids, ids({"[CLS]", "c", "[SEP]"}));
  EXPECT_THAT(bad("/invocations", R"({"inputs":{"text_pair":"a"}})"), HasSubstr("inputs"));
  EXPECT_THAT(bad("/invocations", R"({"inputs":[{"text":"a","text_pair":7}]})"),
              HasSubstr("inputs[0].text_pair must be a string"));
  // A model that does not tell the two texts apart gets no types.
  write("config.json", R"({"architectures":["DistilBertForSequenceClassification"]})");
  start(3);
  good("/invocations", R"({"inputs":{"text":"a cat","text_pair":"the dog"}})");
  EXPECT_TRUE(requests()[0].token_types.empty());
}

TEST_F(ClassificationTest, AnEmbeddingOfAClassifierWhereTheTaskSaysSo) {
  configuration::ModelOptions options;
  options.task = configuration::Task::kEmbed;
  start(3, options);
  EXPECT_EQ(good("/invocations", R"({"inputs":"a"})"), "[[3,0,-4,0.5]]\n");
  start(3);
  EXPECT_THAT(good("/v1/embeddings", R"({"input":"a"})"), HasSubstr("[3,0,-4,0.5]"));
  EXPECT_THAT(bad("/invocations", R"([{"key":"a","value":"b"}])"), HasSubstr("does not rerank"));
}

}  // namespace
}  // namespace peregrine::api
