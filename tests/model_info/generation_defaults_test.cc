// SPDX-License-Identifier: Apache-2.0
#include "model_info/generation_defaults.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace peregrine::model_info {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GenerationDefaults parse(const std::string& text) {
  const auto document = core::parse_json(text, "generation_config.json");
  return parse_generation_defaults({document, "generation_config.json"});
}

void expect_refused(const std::string& key, const std::string& value, const std::string& expected) {
  try {
    parse(fmt::format(R"({{"{}": {}}})", key, value));
    ADD_FAILURE() << key << " = " << value << " is accepted";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), ::testing::StartsWith("generation_config.json: '" + key + "'")) << value;
    EXPECT_THAT(error.what(), HasSubstr("must be " + expected)) << value;
  }
}

TEST(GenerationDefaults, EveryFieldIsRead) {
  const auto all = parse(R"({
    "do_sample": true, "temperature": 0.6, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "typical_p": 1,
    "repetition_penalty": 1.1, "max_new_tokens": 512, "max_length": 4096, "min_new_tokens": 2, "min_length": 0,
    "no_repeat_ngram_size": 3, "suppress_tokens": [1, 0, 2147483647], "bad_words_ids": [[5], [6, 7]],
    "num_beams": 4, "num_return_sequences": 2, "length_penalty": -0.5, "early_stopping": "never",
    "transformers_version": "4.45.0", "_from_model_config": true, "unknown": {"x": []}})");
  EXPECT_EQ(all.do_sample, true);
  EXPECT_EQ(all.temperature, 0.6);
  EXPECT_EQ(all.top_k, 40);
  EXPECT_EQ(all.top_p, 0.9);
  EXPECT_EQ(all.min_p, 0.05);
  EXPECT_EQ(all.typical_p, 1.0);
  EXPECT_EQ(all.repetition_penalty, 1.1);
  EXPECT_EQ(all.max_new_tokens, 512);
  EXPECT_EQ(all.max_length, 4096);
  EXPECT_EQ(all.min_new_tokens, 2);
  EXPECT_EQ(all.min_length, 0);
  EXPECT_EQ(all.no_repeat_ngram_size, 3);
  EXPECT_THAT(all.suppress_tokens.value(), ElementsAre(1, 0, 2147483647));
  EXPECT_THAT(all.bad_words_ids.value(), ElementsAre(ElementsAre(5), ElementsAre(6, 7)));
  EXPECT_EQ(all.num_beams, 4);
  EXPECT_EQ(all.num_return_sequences, 2);
  EXPECT_EQ(all.length_penalty, -0.5);
  EXPECT_EQ(all.early_stopping, EarlyStopping::kNever);
  EXPECT_EQ(parse(R"({"early_stopping": true})").early_stopping, EarlyStopping::kTrue);
  EXPECT_EQ(parse(R"({"early_stopping": false})").early_stopping, EarlyStopping::kFalse);
  EXPECT_TRUE(parse(R"({"suppress_tokens": []})").suppress_tokens.value().empty());
}

TEST(GenerationDefaults, NullAndAbsentAreTheSame) {
  for (const char* text :
       {"{}", R"({"do_sample": null, "temperature": null, "top_k": null, "top_p": null, "min_p": null,
                  "typical_p": null, "repetition_penalty": null, "max_new_tokens": null, "max_length": null,
                  "min_new_tokens": null, "min_length": null, "no_repeat_ngram_size": null, "suppress_tokens": null,
                  "bad_words_ids": null, "num_beams": null, "num_return_sequences": null, "length_penalty": null,
                  "early_stopping": null})"}) {
    const auto none = parse(text);
    EXPECT_FALSE(none.do_sample || none.temperature || none.top_k || none.top_p || none.min_p ||
                 none.typical_p);
    EXPECT_FALSE(none.repetition_penalty || none.max_new_tokens || none.max_length || none.min_new_tokens);
    EXPECT_FALSE(none.min_length || none.no_repeat_ngram_size || none.suppress_tokens || none.bad_words_ids);
    EXPECT_FALSE(none.num_beams || none.num_return_sequences || none.length_penalty || none.early_stopping);
  }
}

TEST(GenerationDefaults, WrongTypesAndRangesNameFileAndKey) {
  for (const char* value : {"1", "\"true\"", "[]", "{}"}) expect_refused("do_sample", value, "true or false");
  for (const char* key :
       {"temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty"}) {
    for (const char* value : {"\"1\"", "true", "[1]", "{}"}) expect_refused(key, value, "a number");
    expect_refused(key, "1e999", "a finite number");
  }
  for (const char* value : {"-0.1", "-5"})
    expect_refused("temperature", value, "a number that is not negative");
  for (const char* key : {"top_p", "min_p", "typical_p"}) {
    for (const char* value : {"-0.01", "1.01", "2"}) expect_refused(key, value, "a number from 0 to 1");
  }
  for (const char* value : {"0", "-1.5"}) expect_refused("repetition_penalty", value, "a number above 0");
  for (const char* key : {"top_k", "min_new_tokens", "min_length", "no_repeat_ngram_size"}) {
    for (const char* value : {"-1", "1.0", "\"4\"", "true", "2147483648", "18446744073709551615"}) {
      expect_refused(key, value, "an integer from 0 to 2147483647");
    }
  }
  for (const char* key : {"max_new_tokens", "max_length", "num_beams", "num_return_sequences"}) {
    for (const char* value : {"0", "-1", "1.5", "\"4\"", "[]", "9223372036854775808"}) {
      expect_refused(key, value, "an integer from 1 to 2147483647");
    }
  }
  for (const char* value : {"1", "\"always\"", "[]"})
    expect_refused("early_stopping", value, "true, false or \"never\"");
  for (const char* value : {"5", "\"5\"", "{}"})
    expect_refused("suppress_tokens", value, "a list of token ids");
  for (const char* value : {"[-1]", "[0, 1.5]", "[\"a\"]", "[[1]]", "[null]", "[2147483648]"}) {
    expect_refused("suppress_tokens", value, "an integer from 0 to 2147483647");
  }
  for (const char* value : {"5", "{}", "\"x\""})
    expect_refused("bad_words_ids", value, "a list of lists of token ids");
  for (const char* value : {"[5]", "[[1], 2]", "[null]"})
    expect_refused("bad_words_ids", value, "a list of token ids");
  expect_refused("bad_words_ids", "[[1], []]", "a list of at least one token id");
  expect_refused("bad_words_ids", "[[1, -2]]", "an integer from 0 to 2147483647, found -2");
}

}  // namespace
}  // namespace peregrine::model_info
