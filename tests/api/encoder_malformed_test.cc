// SPDX-License-Identifier: Apache-2.0
// Every field of the encoders' requests with every kind of value that it should not have: 4xx that names the
// field, or 200 where the value is allowed; never 5xx.

#include <boost/json/parse.hpp>

#include "encoder_fixture.h"

namespace peregrine::api {
namespace {

const std::vector<std::string> kValues = {"null",
                                          "true",
                                          "0",
                                          "-1",
                                          "1",
                                          "1.5",
                                          "1e400",
                                          "99999999999999999999",
                                          "-9223372036854775808",
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
                                          "[[1.5]]",
                                          "{\"key\":1}",
                                          "[{\"key\":\"a\"}]",
                                          "{\"text\":1}",
                                          "[{\"text\":null}]",
                                          "[[[[[[[[1]]]]]]]]"};

class EncoderMalformedTest : public EncoderTest {
 protected:
  void check(const std::string& path, const std::string& body, const std::string& field) {
    const testing::Answer answer = ask(path, body);
    const bool fine = answer.status() == 200 || (answer.status() >= 400 && answer.status() < 500);
    EXPECT_TRUE(fine) << answer.status() << " for " << body << ": " << answer.body;
    EXPECT_NO_THROW((void)boost::json::parse(answer.body)) << answer.body;
    if (answer.status() == 200) return;
    const bool no_json = answer.body.find("not valid JSON at byte") != std::string::npos;
    const bool pairs = answer.body.find("does not rerank") != std::string::npos;
    EXPECT_TRUE(no_json || pairs || answer.body.find(field) != std::string::npos)
        << body << ": " << answer.body;
    EXPECT_LT(answer.body.size(), 1000u);
    EXPECT_EQ(model_->encoder.alive, 0);
  }

  void check_all(const std::string& path, const std::string& begin, const std::vector<std::string>& fields,
                 const std::string& end = "}") {
    for (const std::string& field : fields) {
      for (const std::string& value : kValues) {
        check(path, begin + "\"" + field + "\":" + value + end, field);
      }
    }
  }
};

TEST_F(EncoderMalformedTest, Embeddings) {
  start(0);
  check_all("/v1/embeddings", "{", {"input"});
  check_all("/v1/embeddings", R"({"input":"a",)",
            {"model", "encoding_format", "dimensions", "user", "normalize", "pooling", "truncate",
             "truncation", "truncation_direction", "truncate_prompt_tokens", "max_length",
             "add_special_tokens", "prompt_name", "priority", "request_id", "nonsense"});
  check_all("/invocations", "{", {"inputs"});
  check_all("/invocations", R"({"inputs":"a",)", {"parameters", "truncate", "normalize", "prompt_name"});
  check_all("/invocations", R"({"inputs":"a","parameters":{)",
            {"normalize", "pooling", "truncate", "truncation", "truncate_prompt_tokens", "max_length",
             "add_special_tokens", "prompt_name", "nonsense"},
            "}}");
}

TEST_F(EncoderMalformedTest, Classification) {
  start(3);
  check_all("/invocations", "{", {"inputs"});
  check_all("/invocations", R"({"inputs":"a",)", {"parameters", "truncate"});
  check_all("/invocations", R"({"inputs":["a"],"parameters":{)",
            {"top_k", "function_to_apply", "return_all_scores", "truncation", "truncate_prompt_tokens",
             "max_length", "add_special_tokens", "padding"},
            "}}");
}

TEST_F(EncoderMalformedTest, Rerank) {
  start(1);
  check_all("/v1/rerank", R"({"documents":["a"],)", {"query"});
  check_all("/v1/rerank", R"({"query":"a",)", {"documents"});
  check_all("/rerank", R"({"query":"a",)", {"texts"});
  check_all("/v1/rerank", R"({"query":"a","documents":["a","b"],)",
            {"model", "top_n", "return_documents", "raw_scores", "truncate", "truncation_direction",
             "truncate_prompt_tokens", "max_length", "user", "priority", "request_id", "nonsense"});
  check_all("/rerank", R"({"query":"a","texts":["a","b"],)", {"return_text", "raw_scores", "truncate"});
  check_all("/invocations", R"({"inputs":[{"key":"a","value":"b"}],"parameters":{)",
            {"raw_scores", "truncation"}, "}}");
  for (const std::string& value : kValues) {
    check("/invocations", R"([{"key":"a","value":)" + value + "}]", "value");
    check("/invocations", "[" + value + "]", "inputs");
    check("/invocations", value, "");
  }
}

}  // namespace
}  // namespace peregrine::api
