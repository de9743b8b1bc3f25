// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <string>
#include <vector>

#include "api/service.h"
#include "fake_model.h"

// Every field of LMI's requests with every kind of value that it should not have: an answer of 4xx that names
// the field, or 200 where the value is allowed; never 5xx.

namespace peregrine::api {
namespace {

const std::vector<std::string> kParameters = {"max_new_tokens",
                                              "max_tokens",
                                              "max_length",
                                              "min_new_tokens",
                                              "min_tokens",
                                              "min_length",
                                              "do_sample",
                                              "temperature",
                                              "top_k",
                                              "top_p",
                                              "min_p",
                                              "typical_p",
                                              "seed",
                                              "random_seed",
                                              "repetition_penalty",
                                              "presence_penalty",
                                              "frequency_penalty",
                                              "no_repeat_ngram_size",
                                              "bad_words_ids",
                                              "suppress_tokens",
                                              "eos_token_id",
                                              "ignore_eos_token",
                                              "ignore_eos",
                                              "stop_token_ids",
                                              "n",
                                              "num_return_sequences",
                                              "best_of",
                                              "top_n_tokens",
                                              "logprobs",
                                              "num_beams",
                                              "length_penalty",
                                              "early_stopping",
                                              "logit_bias",
                                              "stop_sequences",
                                              "stop",
                                              "include_stop_str_in_output",
                                              "skip_special_tokens",
                                              "spaces_between_special_tokens",
                                              "truncate",
                                              "return_full_text",
                                              "details",
                                              "output_formatter",
                                              "decoder_input_details",
                                              "prompt_logprobs",
                                              "use_beam_search",
                                              "num_beam_groups",
                                              "diversity_penalty",
                                              "beam_width",
                                              "max_seq_len",
                                              "len_penalty",
                                              "beam_search_diversity_rate",
                                              "is_return_output_log_probs",
                                              "is_return_cum_log_probs",
                                              "return_cum_log_probs",
                                              "return_output_length",
                                              "is_return_cross_attentions",
                                              "bad_words_list",
                                              "bad_words",
                                              "bad_sequences",
                                              "stop_words_list",
                                              "watermark",
                                              "grammar",
                                              "guided_json",
                                              "response_format",
                                              "adapter_id",
                                              "nonsense_parameter"};

const std::vector<std::string> kTopLevel = {"inputs",   "parameters", "stream",
                                            "adapters", "model_name", "nonsense"};

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

/// JSON texts; NaN is none.
const std::vector<std::string> kValues = {"null",
                                          "true",
                                          "false",
                                          "0",
                                          "-1",
                                          "1",
                                          "1.5",
                                          "1e400",
                                          "-1e400",
                                          "99999999999999999999",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "NaN",
                                          "Infinity",
                                          "\"\"",
                                          "\"unknown\"",
                                          "\"\\u0000\"",
                                          "[]",
                                          "{}",
                                          "[null]",
                                          "[\"\"]",
                                          "[-1]",
                                          "[1,\"a\"]",
                                          "[[]]",
                                          "[[-1]]",
                                          "[{}]",
                                          "{\"a\":1}",
                                          "{\"a\":{\"b\":[]}}",
                                          nested(30),
                                          nested(100),
                                          ""};

class MalformedTest : public ::testing::Test {
 protected:
  void check(const std::string& body, const std::string& field, const std::string& value) {
    const testing::Answer answer = testing::post(*service_, "/invocations", body);
    const bool fine = answer.status() == 200 || (answer.status() >= 400 && answer.status() < 500);
    EXPECT_TRUE(fine) << answer.status() << " for " << body << ": " << answer.body;
    if (answer.status() == 200) {
      EXPECT_NE(answer.body, "");
      return;
    }
    EXPECT_NE(value, "null") << body << ": " << answer.body;
    const auto json = answer.json();
    EXPECT_EQ(json.at("code"), answer.status());
    const auto* text = json.as_object().if_contains("error");
    if (text == nullptr) text = json.as_object().if_contains("message");
    ASSERT_NE(text, nullptr) << answer.body;
    const std::string message(text->as_string());
    const bool no_json = message.find("not valid JSON at byte") != std::string::npos;
    EXPECT_TRUE(no_json || message.find(field) != std::string::npos || field == "model_name")
        << body << ": " << message;
    EXPECT_LT(message.size(), 1000u);
  }

  testing::FakeModel model_;
  serving::Metrics metrics_;
  std::unique_ptr<Service> service_ = create_service({&model_}, metrics_);
};

TEST_F(MalformedTest, Parameters) {
  for (const std::string& name : kParameters) {
    for (const std::string& value : kValues) {
      check("{\"inputs\":\"Hi\",\"parameters\":{\"" + name + "\":" + value + "}}", name, value);
      check("{\"inputs\":\"Hi\",\"stream\":true,\"parameters\":{\"temperature\":1,\"" + name + "\":" + value +
                "}}",
            name, value);
    }
  }
}

TEST_F(MalformedTest, TopLevel) {
  for (const std::string& name : kTopLevel) {
    for (const std::string& value : kValues) {
      const std::string rest = name == "inputs" ? "" : "\"inputs\":\"Hi\",";
      // Null inputs are no inputs.
      check("{" + rest + "\"" + name + "\":" + value + "}", name, name == "inputs" ? "" : value);
    }
  }
}

TEST_F(MalformedTest, TheNextRequestIsAnswered) {
  testing::post(*service_, "/invocations", "{\"inputs\":");
  EXPECT_EQ(testing::post(*service_, "/invocations", R"({"inputs":"Hi"})").status(), 200);
  EXPECT_EQ(model_.alive, 0);
}

}  // namespace
}  // namespace peregrine::api
