// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "api/service.h"
#include "fake_model.h"
#include "support/test_data.h"

// LMI's dialect where an answer is more than one sampled sequence: beams, the best of several, the prompt's
// log-probabilities, FasterTransformer's names, and encoder-decoders.

namespace peregrine::api {
namespace {

using testing::Answer;
using ::testing::ElementsAre;
using testing::FakeModel;
using ::testing::HasSubstr;
using testing::Script;
using testing::tokens_of;
using Ids = std::vector<std::int32_t>;

class SequencesTest : public ::testing::Test {
 protected:
  explicit SequencesTest(std::unique_ptr<FakeModel> model = std::make_unique<FakeModel>())
      : model_(std::move(model)) {}

  Answer invoke(const std::string& parameters, const std::string& more = "") {
    if (!service_) service_ = create_service({model_.get()}, metrics_);
    return testing::post(*service_, "/invocations",
                         R"({"inputs":"To be, or not to be","parameters":)" + parameters + more + "}");
  }
  boost::json::value json(const std::string& parameters) {
    const Answer answer = invoke(parameters);
    EXPECT_EQ(answer.status(), 200) << parameters << ": " << answer.body;
    return answer.json();
  }
  /// The message of a refusal.
  std::string refusal(const std::string& parameters, const std::string& more = "") {
    const Answer answer = invoke(parameters, more);
    EXPECT_EQ(answer.status(), 400) << parameters << ": " << answer.body;
    return answer.status() == 400 ? std::string(answer.json().at("error").as_string()) : std::string();
  }
  const generation::Parameters& asked() const { return model_->requests.back().parameters; }
  /// What the model is asked for.
  const generation::Parameters& asked(const std::string& parameters) {
    json(parameters);
    return asked();
  }

  void answer_with(const std::vector<std::string>& texts, Script script = {}) {
    for (const std::string& text : texts) script.tokens.push_back(tokens_of(text));
    model_->script = [script](const serving::GenerationRequest&) { return script; };
  }

  std::unique_ptr<FakeModel> model_;
  serving::Metrics metrics_;
  std::unique_ptr<Service> service_;
};

TEST_F(SequencesTest, BeamsHaveTheirScores) {
  answer_with({"one", "two"}, {.log_prob = -1, .scores = {-0.25f, -0.5f}});
  const auto answer =
      json(R"({"num_beams":4,"num_return_sequences":2,"length_penalty":2,"early_stopping":"never"})");
  EXPECT_EQ(asked().num_beams, 4);
  EXPECT_EQ(asked().n, 2);
  EXPECT_EQ(asked().length_penalty, 2);
  EXPECT_EQ(asked().early_stopping, generation::EarlyStopping::kNever);
  EXPECT_EQ(answer.at("generated_text"), "one");
  const auto& details = answer.at("details");
  EXPECT_EQ(details.at("score").as_double(), -0.25);
  const auto& other = details.at("best_of_sequences").as_array().at(0);
  EXPECT_EQ(other.at("generated_text"), "two");
  EXPECT_EQ(other.at("score").as_double(), -0.5);
  EXPECT_FALSE(details.as_object().contains("cum_log_probs"));
}

TEST_F(SequencesTest, UseBeamSearchIsAnotherWayToAskForBeams) {
  EXPECT_EQ(asked(R"({"use_beam_search":true,"best_of":4,"n":2})").num_beams, 4);
  EXPECT_EQ(asked().n, 2);
  EXPECT_EQ(asked(R"({"use_beam_search":true,"n":3})").num_beams, 3);
  EXPECT_EQ(asked(R"({"use_beam_search":true})").num_beams, 1);
  EXPECT_FALSE(asked().do_sample) << "a beam of one is greedy";
  EXPECT_EQ(asked(R"({"use_beam_search":true,"num_beams":5})").num_beams, 5);
  EXPECT_EQ(asked(R"({"use_beam_search":false,"temperature":1,"best_of":2})").num_beams, 1);
}

TEST_F(SequencesTest, TheBestOfSeveralComesFirst) {
  answer_with({"a", "b", "c", "d", "e"}, {.log_probs = {-3, -1, -2, -0.5f, -4}});
  const auto answer = json(R"({"best_of":5,"n":2,"temperature":1})");
  EXPECT_EQ(asked().computed_sequences(), 5);
  EXPECT_EQ(asked().n, 2);
  EXPECT_EQ(answer.at("generated_text"), "d");
  ASSERT_EQ(answer.at("details").at("best_of_sequences").as_array().size(), 1u);
  EXPECT_EQ(answer.at("details").at("best_of_sequences").at(0).at("generated_text"), "b");
  // TGI's: all of them, the best in front.
  const auto all = json(R"({"best_of":3,"temperature":1})");
  EXPECT_EQ(asked().n, 3);
  EXPECT_EQ(all.at("generated_text"), "b");
  EXPECT_EQ(all.at("details").at("best_of_sequences").as_array().size(), 2u);
  EXPECT_EQ(json(R"({"n":3,"temperature":1})").at("generated_text"), "a");
  EXPECT_THAT(refusal(R"({"best_of":2,"n":3,"temperature":1})"), HasSubstr("parameters.best_of"));
  EXPECT_THAT(refusal(R"({"best_of":33,"n":2,"temperature":1})"),
              HasSubstr("parameters.best_of must be at most 32"));
  EXPECT_THAT(refusal(R"({"num_beams":33})"), HasSubstr("parameters.num_beams must be at most 32"));
}

TEST_F(SequencesTest, WhatIsKnownOnlyAtTheEndIsNotStreamed) {
  const std::string stream = R"(,"stream":true)";
  EXPECT_THAT(refusal(R"({"num_beams":2})", stream),
              HasSubstr("parameters.num_beams must be 1 in a streamed"));
  EXPECT_THAT(refusal(R"({"best_of":2,"n":1,"temperature":1})", stream),
              HasSubstr("parameters.best_of must be n, 1,"));
  EXPECT_THAT(refusal(R"({"n":2,"temperature":1})", stream), HasSubstr("parameters.n must be 1"));
  EXPECT_THAT(refusal(R"({"decoder_input_details":true})", stream),
              HasSubstr("parameters.decoder_input_details"));
  EXPECT_THAT(refusal(R"({"prompt_logprobs":0})", stream), HasSubstr("parameters.prompt_logprobs"));
  EXPECT_EQ(invoke(R"({"num_beams":2,"output_formatter":"json"})", stream).status(), 200);
}

TEST_F(SequencesTest, PrefillTellsThePrompt) {
  const Ids prompt = tokens_of("To be, or not to be");
  const auto answer = json(R"({"decoder_input_details":true})");
  EXPECT_EQ(asked().prompt_logprobs, 0);
  const auto& prefill = answer.at("details").at("prefill").as_array();
  ASSERT_EQ(prefill.size(), prompt.size());
  std::string text;
  for (std::size_t i = 0; i < prefill.size(); ++i) {
    EXPECT_EQ(prefill[i].at("id").as_int64(), prompt[i]);
    text += prefill[i].at("text").as_string();
    if (i > 0) {
      EXPECT_EQ(prefill[i].at("log_prob").to_number<double>(), -static_cast<double>(i) / 8);
    }
  }
  EXPECT_EQ(text, "To be, or not to be");
  EXPECT_TRUE(prefill[0].at("log_prob").is_null()) << "it follows nothing";
  EXPECT_FALSE(answer.at("details").as_object().contains("prefill_top_tokens"));

  const auto top = json(R"({"prompt_logprobs":2})").at("details").at("prefill_top_tokens").as_array();
  EXPECT_EQ(asked().prompt_logprobs, 2);
  ASSERT_EQ(top.size(), prompt.size());
  EXPECT_EQ(top[0].as_array().size(), 0u);
  EXPECT_EQ(top[1].as_array().size(), 2u);
  EXPECT_EQ(top[1].at(0).at("id").as_int64(), prompt[1]);
  EXPECT_FALSE(json(R"({"details":true})").at("details").as_object().contains("prefill"));
  EXPECT_FALSE(asked().prompt_logprobs.has_value());
  EXPECT_THAT(refusal(R"({"prompt_logprobs":101})"),
              HasSubstr("parameters.prompt_logprobs must be an integer"));
}

TEST_F(SequencesTest, FasterTransformersNames) {
  answer_with({"one"}, {.log_prob = -1});
  const auto answer = json(R"({"beam_width":3,"max_seq_len":7,"len_penalty":0.5,"random_seed":3,
      "is_return_output_log_probs":true,"return_cum_log_probs":1,"is_return_cross_attentions":false})");
  EXPECT_EQ(asked().num_beams, 3);
  EXPECT_EQ(asked().max_new_tokens, 7);
  EXPECT_EQ(asked().length_penalty, 0.5f);
  EXPECT_EQ(asked().seed, 3u);
  const auto& details = answer.at("details");
  EXPECT_EQ(details.at("cum_log_probs").to_number<double>(), -static_cast<double>(tokens_of("one").size()));
  EXPECT_TRUE(details.at("tokens").is_array());
  EXPECT_THAT(refusal(R"({"beam_width":2,"num_beams":3})"), HasSubstr("beam"));
  EXPECT_THAT(refusal(R"({"return_cum_log_probs":2})"), HasSubstr("parameters.return_cum_log_probs"));
  EXPECT_THAT(refusal(R"({"is_return_cross_attentions":true})"),
              HasSubstr("parameters.is_return_cross_attentions"));
  // It took one of the two penalties; others take both.
  const std::string both = R"("repetition_penalty":1.5,"presence_penalty":1)";
  EXPECT_THAT(refusal("{\"max_seq_len\":7," + both + "}"),
              HasSubstr("parameters.presence_penalty and parameters.repet"));
  EXPECT_EQ(invoke("{\"max_new_tokens\":7," + both + "}").status(), 200);
  EXPECT_EQ(invoke(R"({"max_seq_len":7,"repetition_penalty":1.0,"presence_penalty":1})").status(), 200);
}

TEST_F(SequencesTest, WordsBecomeTokens) {
  const Ids word = tokens_of("thou");
  const Ids behind_a_blank = tokens_of(" thou");
  ASSERT_NE(word, behind_a_blank);
  EXPECT_THAT(asked(R"({"bad_words_list":["thou"]})").bad_words_ids, ElementsAre(word, behind_a_blank));
  EXPECT_THAT(asked(R"({"bad_words":["thou"],"bad_words_ids":[[5,6]]})").bad_words_ids,
              ElementsAre(word, behind_a_blank, Ids{5, 6}));
  EXPECT_THAT(asked(R"({"bad_sequences":[7,[8,9]]})").bad_words_ids, ElementsAre(Ids{7}, Ids{8, 9}));
  EXPECT_TRUE(asked(R"({"bad_words_list":[],"bad_words":null})").bad_words_ids.empty());
  EXPECT_THAT(refusal(R"({"bad_words_list":"thou"})"), HasSubstr("parameters.bad_words_list must be a list"));
  EXPECT_THAT(refusal(R"({"bad_words_list":["a",""]})"), HasSubstr("parameters.bad_words_list[1] must be"));
  EXPECT_THAT(refusal(R"({"bad_words_list":[[]]})"), HasSubstr("parameters.bad_words_list[0] must be"));
  EXPECT_THAT(refusal(R"({"bad_words_list":[-1]})"), HasSubstr("parameters.bad_words_list[0] must be"));
  EXPECT_THAT(refusal(R"({"bad_words_list":[5000]})"), HasSubstr("parameters.bad_words_list must hold"));
  EXPECT_THAT(refusal(R"({"bad_words":[")" + std::string(200, '!') + "\"]}"),
              HasSubstr("parameters.bad_words[0] has "));
}

TEST_F(SequencesTest, StopWordsAreTextsOrTokens) {
  answer_with({"one two three"});
  const auto text = [&](const std::string& list) {
    return std::string(json("{\"stop_words_list\":" + list + "}").at("generated_text").as_string());
  };
  EXPECT_EQ(text(R"([" two"])"), "one");
  const Ids both = tokens_of(" two three");
  ASSERT_GT(both.size(), 1u);
  const boost::json::array list = {boost::json::array(both.begin(), both.end())};
  EXPECT_EQ(text(boost::json::serialize(list)), "one");
  EXPECT_EQ(text("[5,[6]]"), "one two three");
  EXPECT_THAT(asked().stop_token_ids, ElementsAre(5, 6));
  EXPECT_THAT(asked(R"({"stop_words_list":[5],"stop_token_ids":[9]})").stop_token_ids, ElementsAre(5, 9));
  EXPECT_THAT(refusal(R"({"stop_words_list":[5,[]]})"), HasSubstr("parameters.stop_words_list[1]"));
  EXPECT_THAT(refusal(R"({"stop_words_list":[5000]})"), HasSubstr("parameters.stop_words_list"));
}

/// T5's tokenizer, whose texts end with </s>, id 1.
class EncoderDecoderTest : public SequencesTest {
 protected:
  EncoderDecoderTest() : SequencesTest(nullptr) {}

  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA("tokenizers/t5-small/tokenizer.json");
    const auto from = testing::test_data() / "tokenizers/t5-small";
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      if (std::filesystem::exists(from / name)) std::filesystem::copy(from / name, directory_.path() / name);
    }
    write_config(R"("decoder_start_token_id":0,)");
    set_model();
  }

  void write_config(const std::string& more) const {
    std::ofstream(directory_.path() / "config.json")
        << R"({"architectures":["T5ForConditionalGeneration"],"model_type":"t5","is_encoder_decoder":true,)"
        << more << R"("eos_token_id":1,"pad_token_id":0,"vocab_size":32128})";
  }

  void set_model() {
    service_.reset();
    model_ = std::make_unique<FakeModel>("t5", directory_.path());
    model_->bounds = {.vocab_size = 32128, .max_model_length = 16, .max_sequences = 8};
    model_->bounds.encoder_decoder = true;
    model_->script = [](const serving::GenerationRequest&) { return Script{.tokens = {{100, 200}}}; };
  }

  const Ids& source() const { return model_->requests.back().encoder_ids; }

  testing::TemporaryDirectory directory_;
};

TEST_F(EncoderDecoderTest, TheTextGoesToTheEncoder) {
  json("{}");
  EXPECT_EQ(model_->requests.back().prompt_ids, Ids{0});
  ASSERT_GT(source().size(), 2u);
  EXPECT_EQ(source().back(), 1) << "texts end with </s>";
  // The answer has the context to itself, but for the token that it begins with.
  EXPECT_EQ(asked(R"({"max_new_tokens":1000})").max_new_tokens, 15);
  EXPECT_EQ(asked(R"({"max_length":10})").max_new_tokens, 9);
  // What the answer does not continue is not repeated.
  EXPECT_EQ(json(R"({"return_full_text":true})"), json("{}"));
}

TEST_F(EncoderDecoderTest, TruncateKeepsTheBeginningAndTheEnd) {
  json("{}");
  const Ids whole = source();
  json(R"({"truncate":4})");
  EXPECT_THAT(source(), ElementsAre(whole[0], whole[1], whole[2], 1));
}

TEST_F(EncoderDecoderTest, TheEncoderTakesAsMuchAsTheContext) {
  model_->bounds.max_model_length = 8;
  json("{}");
  EXPECT_LE(source().size(), 8u);
  model_->bounds.max_model_length = static_cast<std::int64_t>(source().size());
  json("{}");
  --model_->bounds.max_model_length;
  EXPECT_THAT(refusal("{}"), HasSubstr("the model's encoder takes at most"));
}

TEST_F(EncoderDecoderTest, PromptsAreNotScored) {
  EXPECT_THAT(refusal(R"({"decoder_input_details":true})"),
              HasSubstr("parameters.decoder_input_details is not"));
  EXPECT_THAT(refusal(R"({"prompt_logprobs":1})"), HasSubstr("parameters.prompt_logprobs is not"));
}

TEST_F(EncoderDecoderTest, WithoutABeginningThereIsNoAnswer) {
  write_config("");
  set_model();
  EXPECT_THAT(refusal("{}"), HasSubstr("decoder_start_token_id"));
  write_config(R"("bos_token_id":7,)");
  set_model();
  json("{}");
  EXPECT_EQ(model_->requests.back().prompt_ids, Ids{7});
}

}  // namespace
}  // namespace peregrine::api
