// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>

#include "encoder_fixture.h"

namespace peregrine::api {
namespace {

using generation::Pooling;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EmbeddingsTest : public EncoderTest {};

TEST_F(EmbeddingsTest, LmiTakesATextOrAList) {
  start(0);
  EXPECT_EQ(good("/invocations", R"({"inputs":"the cat sat"})"), "[[3,0,-4,0.5]]\n");
  EXPECT_EQ(requests()[0].ids, ids({"[CLS]", "the", "cat", "sat", "[SEP]"}));
  EXPECT_TRUE(requests()[0].token_types.empty());
  EXPECT_EQ(requests()[0].kind, generation::EncodeKind::kEmbed);
  EXPECT_EQ(requests()[0].pooling, Pooling::kMean);
  EXPECT_TRUE(requests()[0].normalize);
  EXPECT_EQ(good("/predictions/m", R"({"inputs":["a","cats"]})"), "[[3,0,-4,0.5],[3,0,-4,0.5]]\n");
  EXPECT_EQ(requests()[2].ids, ids({"[CLS]", "cat", "##s", "[SEP]"}));
  EXPECT_EQ(good("/invocations", R"(["a","b"])"), "[[3,0,-4,0.5],[3,0,-4,0.5]]\n");
  EXPECT_EQ(
      good("/invocations", R"({"inputs":"a","parameters":{"normalize":false,"pooling":"cls","unknown":1}})"),
      "[[3,0,-4,0.5]]\n");
  EXPECT_FALSE(requests().back().normalize);
  EXPECT_EQ(requests().back().pooling, Pooling::kCls);
}

TEST_F(EmbeddingsTest, OptionsGoBeforeTheModel) {
  configuration::ModelOptions options;
  options.normalize = false;
  options.pooling = "lasttoken";
  start(0, options);
  good("/invocations", R"({"inputs":"a"})");
  EXPECT_FALSE(requests().back().normalize);
  EXPECT_EQ(requests().back().pooling, Pooling::kLast);
  good("/v1/embeddings", R"({"input":"a","normalize":true})");
  EXPECT_TRUE(requests().back().normalize);
}

TEST_F(EmbeddingsTest, OpenAi) {
  start(0);
  const auto answer =
      boost::json::parse(good("/v1/embeddings", R"({"input":"the cat","model":"m","user":"u"})"));
  EXPECT_EQ(answer,
            boost::json::parse(
                R"({"object":"list","data":[{"object":"embedding","index":0,)"
                R"("embedding":[3,0,-4,0.5]}],"model":"m","usage":{"prompt_tokens":4,"total_tokens":4}})"));
  const auto list = boost::json::parse(good("/v1/embeddings", R"({"input":["a","the cat sat"]})"));
  EXPECT_EQ(list.at("data").as_array().size(), 2u);
  EXPECT_EQ(list.at("data").at(1).at("index"), 1);
  EXPECT_EQ(list.at("usage").at("total_tokens"), 8);
  good("/v1/embeddings", R"({"input":[5,6,28]})");
  EXPECT_THAT(requests().back().ids, ElementsAre(5, 6, 28));
  good("/v1/embeddings", R"({"input":[[7],[8,9]]})");
  EXPECT_THAT(requests().back().ids, ElementsAre(8, 9));
  // 3, 0, -4, 0.5 as float32.
  EXPECT_THAT(good("/v1/embeddings", R"({"input":"a","encoding_format":"base64"})"),
              HasSubstr(R"("embedding":"AABAQAAAAAAAAIDAAAAAPw==")"));
  good("/v1/embeddings", R"({"input":"a b","add_special_tokens":false})");
  EXPECT_EQ(requests().back().ids, ids({"a", "b"}));
  // The same body on LMI's route.
  EXPECT_THAT(good("/invocations", R"({"input":"a"})"), HasSubstr("\"usage\""));
}

TEST_F(EmbeddingsTest, DimensionsOnlyWhereTheModelIsMadeForThem) {
  start(0);
  EXPECT_THAT(good("/v1/embeddings", R"({"input":"a","dimensions":4})"), HasSubstr("[3,0,-4,0.5]"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"a","dimensions":3})"), HasSubstr("dimensions must be 4"));
  write("config.json", R"({"architectures":["BertModel"],"is_matryoshka":true})");
  start(0);
  EXPECT_THAT(good("/v1/embeddings", R"({"input":"a","dimensions":3})"), HasSubstr("[0.6,0,-0.8]"));
  EXPECT_THAT(good("/v1/embeddings", R"({"input":"a","dimensions":2,"normalize":false})"),
              HasSubstr("[3,0]"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"a","dimensions":5})"),
              HasSubstr("dimensions must be 1 to 4"));
  write("config.json", R"({"architectures":["BertModel"],"matryoshka_dimensions":[2,3]})");
  start(0);
  EXPECT_THAT(good("/v1/embeddings", R"({"input":"a","dimensions":3})"), HasSubstr("[0.6,0,-0.8]"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"a","dimensions":1})"), HasSubstr("one of 2, 3"));
}

TEST_F(EmbeddingsTest, TooLongIsRefusedWithTheNumbersUnlessCutIsAskedFor) {
  start(0);
  std::string words;
  for (int i = 0; i < 20; ++i) words += "cat ";
  EXPECT_THAT(bad("/invocations", R"({"inputs":["a",")" + words + "\"]}"),
              HasSubstr("inputs[1] has 22 tokens; model m takes at most 16"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":")" + words + "\"}"), HasSubstr("input has 22 tokens"));
  EXPECT_TRUE(requests().empty());
  for (const char* more :
       {R"("truncate":true)", R"("parameters":{"truncation":true})", R"("parameters":{"truncate":"true"})"}) {
    good("/invocations", R"({"inputs":")" + words + "\"," + more + "}");
    EXPECT_EQ(requests().back().ids.size(), 16u) << more;
    EXPECT_EQ(requests().back().ids.back(), testing::tiny_id("[SEP]"));
  }
  good("/v1/embeddings", R"({"input":")" + words + R"(","truncate_prompt_tokens":5})");
  EXPECT_EQ(requests().back().ids, ids({"[CLS]", "cat", "cat", "cat", "[SEP]"}));
  good("/v1/embeddings", R"({"input":")" + words + R"(","truncate_prompt_tokens":-1})");
  EXPECT_EQ(requests().back().ids.size(), 16u);
  good("/v1/embeddings", R"({"input":[5,6,7,8,9],"truncate_prompt_tokens":2})");
  EXPECT_THAT(requests().back().ids, ElementsAre(5, 6));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"a","truncate_prompt_tokens":17})"),
              HasSubstr("truncate_prompt_tokens must be an integer from -1 to 16"));
  std::string long_ids = "5";
  for (int i = 0; i < 16; ++i) long_ids += ",5";
  EXPECT_THAT(bad("/v1/embeddings", "{\"input\":[" + long_ids + "]}"), HasSubstr("input has 17 tokens"));
}

TEST_F(EmbeddingsTest, IdsAreChecked) {
  start(0);
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":[5,29]})"),
              HasSubstr("input[1] must be a token id from 0 to 28"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":[[5],[-1]]})"), HasSubstr("input[1][0]"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":[5,"a"]})"), HasSubstr("input[1]"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":[[]]})"), HasSubstr("input[0] has no tokens"));
}

TEST_F(EmbeddingsTest, WithoutATokenizerThereAreIds) {
  std::filesystem::remove(directory_.path() / "tokenizer.json");
  start(0);
  EXPECT_THAT(good("/v1/embeddings", R"({"input":[5]})"), HasSubstr("[3,0,-4,0.5]"));
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"a"})"), HasSubstr("no tokenizer"));
  EXPECT_THAT(bad("/invocations", R"({"inputs":"a"})"), HasSubstr("no tokenizer"));
}

TEST_F(EmbeddingsTest, ALongListGoesInWindowsAndComesInOrder) {
  start(0);
  model_->encoder.vector = [](const serving::EncodeRequest& request) {
    return std::vector<float>{static_cast<float>(request.ids[0]), 0, 0, 0};
  };
  std::string body = "{\"input\":[[0]";
  for (int i = 1; i < 100; ++i) body += ",[" + std::to_string(i % 29) + "]";
  const auto check = [&] {
    const auto answer = boost::json::parse(good("/v1/embeddings", body + "]}"));
    const auto& data = answer.at("data").as_array();
    ASSERT_EQ(data.size(), 100u);
    for (std::size_t i = 0; i < 100; ++i) {
      EXPECT_EQ(data[i].at("embedding").at(0).to_number<int>(), static_cast<int>(i % 29));
    }
    EXPECT_EQ(model_->encoder.alive, 0);
  };
  check();
  EXPECT_LE(model_->encoder.most_alive, 8) << "two batches";
  // A queue with less room than the window.
  model_->encoder.room = 3;
  model_->encoder.most_alive = 0;
  check();
  EXPECT_EQ(model_->encoder.most_alive, 3);
  model_->encoder.room = 0;
  const auto full = ask("/v1/embeddings", body + "]}");
  EXPECT_EQ(full.status(), 503);
  EXPECT_NE(full.header("Retry-After"), "");
  body += "]}";
  std::string many = "{\"input\":[[1]";
  for (int i = 0; i < 2048; ++i) many += ",[1]";
  EXPECT_THAT(bad("/v1/embeddings", many + "]}"), HasSubstr("1 to 2048"));
}

TEST_F(EmbeddingsTest, OneFailureFailsTheRequest) {
  start(0);
  model_->encoder.failure = core::Error(core::ErrorKind::kInternal, "not numbers");
  model_->encoder.failure_from = 2;
  const auto answer = ask("/invocations", R"({"inputs":["a","b","c","a"]})");
  EXPECT_EQ(answer.status(), 500);
  EXPECT_THAT(answer.body, HasSubstr("not numbers"));
  EXPECT_EQ(model_->encoder.alive, 0);
  EXPECT_GT(model_->encoder.cancelled, 0);
}

TEST_F(EmbeddingsTest, AClientThatGoesCancelsItsTexts) {
  start(0);
  model_->encoder.holds = true;
  api::HttpRequest request;
  request.method = "POST";
  request.path = "/v1/embeddings";
  request.body = R"({"input":["a","b","c"]})";
  int wakes = 0;
  auto exchange = service_->handle(std::move(request), [&] { ++wakes; });
  Head head;
  std::string body;
  EXPECT_EQ(exchange->next(head, body), Exchange::State::kWaiting);
  EXPECT_EQ(model_->encoder.alive, 3);
  exchange.reset();
  EXPECT_EQ(model_->encoder.alive, 0);
  EXPECT_EQ(model_->encoder.cancelled, 3);
}

TEST_F(EmbeddingsTest, EachModelSaysWhatItCanDo) {
  start(0);
  for (const char* path : {"/v1/completions", "/invocations"}) {
    EXPECT_THAT(bad(path, R"({"prompt":"a"})"), HasSubstr("does not generate text; it embeds texts"));
  }
  for (const char* path : {"/v1/chat/completions", "/invocations"}) {
    EXPECT_THAT(bad(path, R"({"messages":[{"role":"user","content":"a"}]})"), HasSubstr("does not generate"));
  }
  EXPECT_THAT(bad("/v1/rerank", R"({"query":"a","documents":["b"]})"), HasSubstr("does not rerank"));
  EXPECT_THAT(good("/v1/chat/completions", R"({"inputs":"a"})"), HasSubstr("[[3"));
  EXPECT_EQ(ask("/invocations", R"({"nothing":1})").status(), 424);
  EXPECT_EQ(ask("/invocations", "7").status(), 424);
  EXPECT_EQ(ask("/v1/embeddings", R"(["a"])").status(), 400);
  EXPECT_EQ(testing::get(*service_, "/v1/embeddings").status(), 405);
  configuration::ModelOptions options;
  options.task = configuration::Task::kClassify;
  start(3, options);
  EXPECT_THAT(bad("/v1/embeddings", R"({"input":"a"})"),
              HasSubstr("does not embed texts; it classifies texts into 3 labels"));

  testing::FakeModel generator;
  const auto service = create_service({&generator}, metrics_);
  const auto answer = testing::post(*service, "/v1/embeddings", R"({"input":"a"})");
  EXPECT_EQ(answer.status(), 400);
  EXPECT_THAT(answer.body, HasSubstr("does not embed texts; it generates text"));
  EXPECT_EQ(answer.json().at("error").at("param"), "model");
  EXPECT_EQ(testing::post(*service, "/rerank", R"({"query":"a","texts":["b"]})").status(), 400);
  EXPECT_EQ(testing::post(*service, "/invocations", R"(["a"])").status(), 424);
  ASSERT_NE(generator.vocabulary, nullptr);
  EXPECT_EQ(generator.vocabulary->size(), 2048u);
}

TEST_F(EmbeddingsTest, NotReadyIs503) {
  start(0);
  model_->state.state = serving::ModelState::kLoading;
  for (const char* path : {"/invocations", "/v1/embeddings", "/v1/rerank"}) {
    EXPECT_EQ(ask(path, R"({"inputs":"a","input":"a","query":"a","documents":["b"]})").status(), 503) << path;
  }
}

}  // namespace
}  // namespace peregrine::api
