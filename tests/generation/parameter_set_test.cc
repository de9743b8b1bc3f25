// SPDX-License-Identifier: Apache-2.0
#include "generation/parameter_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/test_data.h"

namespace peregrine::generation {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Settings = std::vector<std::pair<std::string, std::string>>;

constexpr std::int64_t kVocab = 100;

ParameterSet set_of(const Settings& settings) {
  ParameterSet set;
  for (const auto& [name, json] : settings) EXPECT_TRUE(set.set(name, boost::json::parse(json))) << name;
  return set;
}

Parameters resolved(const Settings& settings, const model_info::ModelInfo& model = {},
                    std::int64_t prompt = 0) {
  return set_of(settings).resolve(model, kVocab, prompt);
}

/// Expects an error of `kind` whose message holds every one of `parts`.
void expect_error(const Settings& settings, const std::vector<std::string>& parts,
                  core::ErrorKind kind = core::ErrorKind::kInvalidArgument,
                  const model_info::ModelInfo& model = {}, std::int64_t prompt = 0) {
  try {
    resolved(settings, model, prompt);
    ADD_FAILURE() << settings.back().first << " = " << settings.back().second << " was accepted";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    for (const auto& part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(ParameterSet, DefaultsAreOff) {
  const Parameters p = resolved({});
  EXPECT_EQ(p.max_new_tokens, 30);
  EXPECT_FALSE(p.do_sample);
  EXPECT_EQ(p.temperature, 1.0f);
  EXPECT_EQ(p.top_k, 0);
  EXPECT_EQ(p.top_p, 1.0f);
  EXPECT_EQ(p.repetition_penalty, 1.0f);
  EXPECT_EQ(p.n, 1);
  EXPECT_FALSE(p.seed.has_value());
  EXPECT_THAT(p.eos_token_ids, IsEmpty());
}

TEST(ParameterSet, ReadsEveryParameter) {
  const Parameters p = resolved({{"max_new_tokens", "7"},
                                 {"min_new_tokens", "2"},
                                 {"min_length", "5"},
                                 {"do_sample", "true"},
                                 {"temperature", "0.5"},
                                 {"top_k", "40"},
                                 {"top_p", "0.25"},
                                 {"min_p", "0.125"},
                                 {"typical_p", "0.75"},
                                 {"seed", "18446744073709551615"},
                                 {"repetition_penalty", "1.5"},
                                 {"presence_penalty", "-2"},
                                 {"frequency_penalty", "2"},
                                 {"no_repeat_ngram_size", "3"},
                                 {"bad_words_ids", "[[1],[2,3]]"},
                                 {"suppress_tokens", "[4,5]"},
                                 {"eos_token_id", "[6,7]"},
                                 {"stop_token_ids", "[8]"},
                                 {"n", "3"},
                                 {"best_of", "5"},
                                 {"num_beams", "1"},
                                 {"top_n_tokens", "9"},
                                 {"prompt_logprobs", "2"},
                                 {"pad_token_id", "0"},
                                 {"epsilon_cutoff", "0.25"},
                                 {"eta_cutoff", "0.125"},
                                 {"encoder_repetition_penalty", "1.25"},
                                 {"encoder_no_repeat_ngram_size", "4"},
                                 {"sequence_bias", "[[[1],2.5],[[3,4],-1]]"},
                                 {"begin_suppress_tokens", "[10]"},
                                 {"forced_bos_token_id", "11"},
                                 {"forced_eos_token_id", "[12,13]"},
                                 {"exponential_decay_length_penalty", "[14,1.5]"},
                                 {"renormalize_logits", "true"},
                                 {"length_penalty", "2.0"},
                                 {"early_stopping", "\"never\""}});
  EXPECT_EQ(p.max_new_tokens, 7);
  EXPECT_EQ(p.min_new_tokens, 2);
  EXPECT_EQ(p.min_length, 5);
  EXPECT_TRUE(p.do_sample);
  EXPECT_EQ(p.temperature, 0.5f);
  EXPECT_EQ(p.top_k, 40);
  EXPECT_EQ(p.top_p, 0.25f);
  EXPECT_EQ(p.min_p, 0.125f);
  EXPECT_EQ(p.typical_p, 0.75f);
  EXPECT_EQ(p.seed, 18446744073709551615ull);
  EXPECT_EQ(p.repetition_penalty, 1.5f);
  EXPECT_EQ(p.presence_penalty, -2.0f);
  EXPECT_EQ(p.frequency_penalty, 2.0f);
  EXPECT_EQ(p.no_repeat_ngram_size, 3);
  EXPECT_THAT(p.bad_words_ids, ElementsAre(ElementsAre(1), ElementsAre(2, 3)));
  EXPECT_THAT(p.suppress_tokens, ElementsAre(4, 5));
  EXPECT_THAT(p.eos_token_ids, ElementsAre(6, 7));
  EXPECT_THAT(p.stop_token_ids, ElementsAre(8));
  EXPECT_EQ(p.n, 3);
  EXPECT_EQ(p.best_of, 5);
  EXPECT_EQ(p.num_beams, 1);
  EXPECT_EQ(p.top_n_tokens, 9);
  EXPECT_EQ(p.prompt_logprobs, 2);
  EXPECT_EQ(p.epsilon_cutoff, 0.25f);
  EXPECT_EQ(p.eta_cutoff, 0.125f);
  EXPECT_EQ(p.encoder_repetition_penalty, 1.25f);
  EXPECT_EQ(p.encoder_no_repeat_ngram_size, 4);
  EXPECT_EQ(p.sequence_bias, (std::vector<SequenceBias>{{{1}, 2.5f}, {{3, 4}, -1.0f}}));
  EXPECT_THAT(p.begin_suppress_tokens, ElementsAre(10));
  EXPECT_EQ(p.forced_bos_token_id, 11);
  EXPECT_THAT(p.forced_eos_token_ids, ElementsAre(12, 13));
  EXPECT_EQ(p.exponential_decay_length_penalty, (ExponentialDecay{14, 1.5f}));
  EXPECT_TRUE(p.renormalize_logits);
  EXPECT_EQ(p.length_penalty, 2.0f);
  EXPECT_EQ(p.early_stopping, EarlyStopping::kNever);
}

TEST(ParameterSet, ReadsBeams) {
  Parameters p = resolved({{"num_beams", "6"}, {"n", "4"}});
  EXPECT_EQ(p.num_beams, 6);
  EXPECT_EQ(p.num_beam_groups, 1);
  EXPECT_EQ(p.diversity_penalty, 0.0f);
  EXPECT_EQ(p.length_penalty, 1.0f);
  EXPECT_EQ(p.early_stopping, EarlyStopping::kFalse);
  EXPECT_EQ(p.n, 4);
  EXPECT_EQ(p.best_of, 4);
  EXPECT_EQ(p.computed_sequences(), 6);
  EXPECT_EQ(p.reported_sequences(), 4);
  p = resolved({{"num_beams", "6"},
                {"num_beam_groups", "3"},
                {"diversity_penalty", "0.5"},
                {"length_penalty", "-2"},
                {"early_stopping", "true"}});
  EXPECT_EQ(p.num_beam_groups, 3);
  EXPECT_EQ(p.diversity_penalty, 0.5f);
  EXPECT_EQ(p.length_penalty, -2.0f);
  EXPECT_EQ(p.early_stopping, EarlyStopping::kTrue);
  EXPECT_EQ(p.n, 1);
  EXPECT_EQ(resolved({{"early_stopping", "false"}}).early_stopping, EarlyStopping::kFalse);
  EXPECT_EQ(resolved({{"num_beams", "3"}, {"best_of", "2"}}).n, 2);
}

TEST(ParameterSet, ReadsFasterTransformersNames) {
  const Parameters p = resolved({{"beam_width", "4"},
                                 {"max_seq_len", "12"},
                                 {"len_penalty", "0.5"},
                                 {"beam_search_diversity_rate", "0.0"}});
  EXPECT_EQ(p.num_beams, 4);
  EXPECT_EQ(p.max_new_tokens, 12);
  EXPECT_EQ(p.length_penalty, 0.5f);
  EXPECT_EQ(p.num_beam_groups, 1);
  // A rate of diversity makes each beam a group, unless groups are given.
  const Parameters diverse = resolved({{"beam_width", "4"}, {"beam_search_diversity_rate", "0.25"}});
  EXPECT_EQ(diverse.num_beam_groups, 4);
  EXPECT_EQ(diverse.diversity_penalty, 0.25f);
  EXPECT_EQ(resolved({{"num_beams", "4"}, {"beam_search_diversity_rate", "0.25"}, {"num_beam_groups", "2"}})
                .num_beam_groups,
            2);
  expect_error({{"beam_search_diversity_rate", "0.25"}},
               {"'beam_search_diversity_rate'", "without beams", "0.25"});
  expect_error({{"num_beams", "4"}, {"beam_search_diversity_rate", "0.25"}, {"diversity_penalty", "0.5"}},
               {"'beam_search_diversity_rate'", "0.5", "0.25"});
  expect_error({{"beam_width", "0"}}, {"parameter 'beam_width' must be an integer from 1 to 128, found 0"});
}

TEST(ParameterSet, BeamsThatCannotBe) {
  expect_error({{"num_beams", "4"}, {"num_beam_groups", "3"}, {"diversity_penalty", "1"}},
               {"'num_beam_groups' must divide num_beams, 4, found 3"});
  expect_error({{"num_beam_groups", "2"}, {"diversity_penalty", "1"}}, {"'num_beam_groups'", "found 2"});
  expect_error({{"num_beams", "4"}, {"diversity_penalty", "1.5"}},
               {"'diversity_penalty' must be 0 with one group of beams, found 1.5", "num_beam_groups"});
  expect_error({{"num_beams", "4"}, {"num_beam_groups", "2"}},
               {"'diversity_penalty' must be above 0 with 2 groups", "found 0"});
  expect_error({{"num_beams", "4"}, {"n", "5"}}, {"'n' must be at most num_beams, 4, found 5"});
  expect_error({{"num_beams", "4"}, {"n", "2"}, {"best_of", "3"}}, {"'best_of'", "2", "found 3"});
  expect_error({{"num_beams", "4"}, {"do_sample", "true"}}, {"'do_sample' must be false", "found true", "4"},
               core::ErrorKind::kUnsupported);
  // What a temperature alone means gives way, as in transformers, and so does the model's own.
  EXPECT_EQ(resolved({{"num_beams", "4"}, {"temperature", "0.5"}}).num_beams, 4);
  EXPECT_FALSE(resolved({{"num_beams", "4"}, {"temperature", "0.5"}}).do_sample);
  EXPECT_FALSE(resolved({{"num_beams", "4"}, {"do_sample", "false"}}).do_sample);
  model_info::ModelInfo model;
  model.generation.do_sample = true;
  EXPECT_EQ(resolved({{"num_beams", "4"}}, model).num_beams, 4);
  EXPECT_FALSE(resolved({{"num_beams", "4"}}, model).do_sample);
}

TEST(ParameterSet, TheModelsBeams) {
  model_info::ModelInfo model;
  model.generation.num_beams = 3;
  model.generation.length_penalty = 0.5;
  model.generation.early_stopping = model_info::EarlyStopping::kTrue;
  model.generation.num_return_sequences = 2;
  Parameters p = resolved({}, model);
  EXPECT_EQ(p.num_beams, 3);
  EXPECT_EQ(p.length_penalty, 0.5f);
  EXPECT_EQ(p.early_stopping, EarlyStopping::kTrue);
  EXPECT_EQ(p.n, 2);
  p = resolved({{"num_beams", "1"}, {"length_penalty", "2"}, {"early_stopping", "\"never\""}}, model);
  EXPECT_EQ(p.num_beams, 1);
  EXPECT_EQ(p.n, 1);
  EXPECT_EQ(p.length_penalty, 2.0f);
  EXPECT_EQ(p.early_stopping, EarlyStopping::kNever);
  // A request that samples does not get them.
  for (const auto& setting : Settings{{"do_sample", "true"}, {"temperature", "0.5"}}) {
    EXPECT_EQ(resolved({setting}, model).num_beams, 1);
    EXPECT_TRUE(resolved({setting}, model).do_sample);
    EXPECT_EQ(resolved({setting}, model).n, 2);
  }
  EXPECT_EQ(resolved({{"temperature", "0"}}, model).num_beams, 3);
  expect_error({{"n", "4"}},
               {"'n' must be at most num_beams, 3 in the model's generation_config.json, found 4"},
               core::ErrorKind::kInvalidArgument, model);
  model.generation.num_return_sequences = 9;
  EXPECT_EQ(resolved({}, model).n, 3);
  model.generation.num_beams = 5000;
  model.generation.length_penalty = 1e9;
  EXPECT_EQ(resolved({}, model).num_beams, 128);
  EXPECT_EQ(resolved({}, model).length_penalty, 10.0f);
  model.generation.early_stopping = model_info::EarlyStopping::kNever;
  EXPECT_EQ(resolved({}, model).early_stopping, EarlyStopping::kNever);
}

TEST(ParameterSet, BestOf) {
  Parameters p = resolved({{"best_of", "4"}, {"n", "2"}, {"temperature", "1"}});
  EXPECT_EQ(p.n, 2);
  EXPECT_EQ(p.best_of, 4);
  EXPECT_EQ(p.computed_sequences(), 4);
  p = resolved({{"best_of", "2"}, {"temperature", "1"}});
  EXPECT_EQ(p.n, 2);
  EXPECT_EQ(p.best_of, 2);
  EXPECT_EQ(resolved({{"n", "3"}, {"temperature", "1"}}).best_of, 3);
  EXPECT_EQ(resolved({}).best_of, 1);
  expect_error({{"best_of", "1"}, {"n", "2"}, {"temperature", "1"}},
               {"'best_of' must be at least n, 2, found 1"});
  expect_error({{"best_of", "3"}, {"n", "1"}},
               {"'best_of' must be the same as n, 1, without sampling, found 3"});
  expect_error({{"best_of", "3"}}, {"'n' must be 1 without sampling", "found 3"});
}

TEST(ParameterSet, AliasesMeanTheSame) {
  const Parameters p = resolved({{"max_tokens", "9"},
                                 {"min_tokens", "1"},
                                 {"random_seed", "5"},
                                 {"num_return_sequences", "2"},
                                 {"temperature", "1"},
                                 {"logprobs", "3"},
                                 {"ignore_eos", "true"}});
  EXPECT_EQ(p.max_new_tokens, 9);
  EXPECT_EQ(p.min_new_tokens, 1);
  EXPECT_EQ(p.seed, 5u);
  EXPECT_EQ(p.n, 2);
  EXPECT_EQ(p.top_n_tokens, 3);
  EXPECT_EQ(resolved({{"top_logprobs", "4"}}).top_n_tokens, 4);
  EXPECT_EQ(resolved({{"max_tokens", "4"}, {"max_new_tokens", "4"}}).max_new_tokens, 4);
  EXPECT_EQ(resolved({{"max_tokens", "4"}, {"max_tokens", "5"}}).max_new_tokens, 5);
  expect_error({{"max_tokens", "4"}, {"max_new_tokens", "5"}},
               {"'max_tokens'", "'max_new_tokens'", "differ"});
  // An error names what the request wrote.
  expect_error({{"max_tokens", "0"}},
               {"parameter 'max_tokens' must be an integer from 1 to 2147483647, found 0"});
}

TEST(ParameterSet, ValuesOutOfRangeAreNamed) {
  expect_error({{"top_p", "1.5"}}, {"parameter 'top_p' must be a number in [0, 1], found 1.5"});
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"max_new_tokens",
       {"0", "-1", "2147483648", "1.5", "\"5\"", "true", "[1]", "1e300", "18446744073709551615"}},
      {"max_length", {"0", "\"5\""}},
      {"min_new_tokens", {"-1", "0.5", "{}"}},
      {"min_length", {"-1", "false"}},
      {"do_sample", {"1", "\"true\"", "0", "[]"}},
      {"temperature", {"-0.1", "\"hot\"", "1e7", "true", "1e308"}},
      {"top_k", {"-2", "2.5", "\"40\""}},
      {"top_p", {"-0.01", "1.01", "\"0.9\"", "true"}},
      {"min_p", {"-1", "2"}},
      {"typical_p", {"-0.5", "1.5"}},
      {"seed", {"-1", "1.5", "\"7\"", "1e20"}},
      {"repetition_penalty", {"0", "-1", "1e-60", "1001"}},
      {"presence_penalty", {"2.1", "-2.1", "\"1\""}},
      {"frequency_penalty", {"3", "-3"}},
      {"no_repeat_ngram_size", {"-1", "1025", "2.5"}},
      {"bad_words_ids", {"[1,2]", "[[]]", "[[-1]]", "[[\"a\"]]", "5", "\"a\"", "[[[1]]]", "[[2147483648]]"}},
      {"suppress_tokens", {"[[1]]", "3", "[-1]", "[1.5]", "\"x\""}},
      {"eos_token_id", {"-1", "\"</s>\"", "[\"a\"]", "1.5", "{}"}},
      {"ignore_eos_token", {"1", "\"yes\""}},
      {"stop_token_ids", {"5", "[-1]"}},
      {"n", {"0", "129", "1.5"}},
      {"best_of", {"0", "129"}},
      {"prompt_logprobs", {"-1", "101", "1.5", "true"}},
      {"epsilon_cutoff", {"-0.1", "1.1", "\"x\""}},
      {"eta_cutoff", {"-0.1", "1.1", "\"x\""}},
      {"encoder_repetition_penalty", {"0", "-1", "1001", "true"}},
      {"encoder_no_repeat_ngram_size", {"-1", "1025", "2.5"}},
      {"sequence_bias",
       {"{\"1\":1}", "[[1,2]]", "[[[1]]]", "[[[],1]]", "[[[1],\"a\"]]", "[[[-1],1]]", "[[[1],1,2]]",
        "[[[1],1e7]]", "5"}},
      {"begin_suppress_tokens", {"[[1]]", "3", "[-1]"}},
      {"forced_bos_token_id", {"-1", "\"<s>\"", "[1]", "1.5"}},
      {"forced_eos_token_id", {"-1", "\"</s>\"", "[\"a\"]", "1.5", "{}"}},
      {"exponential_decay_length_penalty",
       {"1.5", "[1]", "[1,2,3]", "[-1,1.5]", "[1.5,1.5]", "[1,0]", "[1,\"a\"]", "{}"}},
      {"renormalize_logits", {"1", "\"yes\""}},
      {"num_beam_groups", {"0", "129", "1.5"}},
      {"diversity_penalty", {"-1", "101", "\"1\""}},
      {"beam_search_diversity_rate", {"-1", "101", "\"1\""}},
      {"top_n_tokens", {"-1", "101", "true"}},
      {"num_beams", {"0", "1.5", "129", "-1"}},
      {"length_penalty", {"\"1\"", "true", "10.5", "-11"}},
      {"early_stopping", {"\"always\"", "1", "[]"}},
      {"pad_token_id", {"\"pad\""}}};
  std::set<std::string> tested;
  for (const auto& [name, values] : bad) {
    tested.insert(name);
    for (const auto& value : values) {
      SCOPED_TRACE(name + " = " + value);
      expect_error({{name, value}}, {"parameter '" + name + "'", "must be", "found"});
    }
  }
  // Values at the ends of ranges are in them.
  for (const auto& [name, json] : Settings{{"max_new_tokens", "2147483647"},
                                           {"temperature", "0"},
                                           {"top_k", "-1"},
                                           {"top_p", "0"},
                                           {"top_p", "1"},
                                           {"min_p", "1"},
                                           {"typical_p", "0"},
                                           {"repetition_penalty", "0.001"},
                                           {"presence_penalty", "-2"},
                                           {"no_repeat_ngram_size", "1024"},
                                           {"top_n_tokens", "100"},
                                           {"num_beams", "128"},
                                           {"length_penalty", "-10"},
                                           {"epsilon_cutoff", "1"},
                                           {"sequence_bias", "{}"},
                                           {"sequence_bias", "[[[1],-1000000]]"},
                                           {"exponential_decay_length_penalty", "[0, 1000]"},
                                           {"prompt_logprobs", "0"},
                                           {"n", "1"}}) {
    EXPECT_NO_THROW(resolved({{name, json}})) << name << " " << json;
  }
  for (const ParameterInfo& info : parameter_table()) {
    const bool plain = info.type == "not supported" || info.meaning.starts_with("No effect");
    EXPECT_TRUE(plain || tested.contains(std::string(info.name))) << info.name << " is not tested";
  }
}

TEST(ParameterSet, IntegersMayBeWrittenAsDoubles) {
  EXPECT_EQ(resolved({{"max_new_tokens", "12.0"}}).max_new_tokens, 12);
  EXPECT_EQ(resolved({{"top_k", "-1.0"}}).top_k, 0);
  EXPECT_THAT(resolved({{"suppress_tokens", "[1.0, 2]"}}).suppress_tokens, ElementsAre(1, 2));
  EXPECT_EQ(resolved({{"seed", "3.0"}}).seed, 3u);
}

TEST(ParameterSet, ListsAreBounded) {
  const auto list = [](std::size_t count, const std::string& item) {
    std::string text = "[";
    for (std::size_t i = 0; i < count; ++i) text += (i > 0 ? "," : "") + item;
    return text + "]";
  };
  EXPECT_NO_THROW(resolved({{"bad_words_ids", list(1024, "[1]")}}));
  expect_error({{"bad_words_ids", list(1025, "[1]")}}, {"at most 1024"});
  EXPECT_NO_THROW(resolved({{"bad_words_ids", "[" + list(64, "1") + "]"}}));
  expect_error({{"bad_words_ids", "[" + list(65, "1") + "]"}}, {"'bad_words_ids'[0]", "at most 64"});
  EXPECT_NO_THROW(resolved({{"suppress_tokens", list(65536, "1")}}));
  expect_error({{"suppress_tokens", list(65537, "1")}}, {"at most 65536"});
  expect_error({{"eos_token_id", list(1025, "1")}}, {"at most 1024"});
}

TEST(ParameterSet, TokenIdsMustBeInTheVocabulary) {
  const std::string range = "token ids from 0 to 99, found 100";
  expect_error({{"bad_words_ids", "[[1],[2,100]]"}}, {"'bad_words_ids'", range});
  expect_error({{"suppress_tokens", "[100]"}}, {"'suppress_tokens'", range});
  expect_error({{"eos_token_id", "100"}}, {"'eos_token_id'", range});
  expect_error({{"stop_token_ids", "[100]"}}, {"'stop_token_ids'", range});
  expect_error({{"sequence_bias", "[[[1,100],1]]"}}, {"'sequence_bias'", range});
  expect_error({{"begin_suppress_tokens", "[100]"}}, {"'begin_suppress_tokens'", range});
  expect_error({{"forced_bos_token_id", "100"}}, {"'forced_bos_token_id'", range});
  expect_error({{"forced_eos_token_id", "100"}}, {"'forced_eos_token_id'", range});
}

TEST(ParameterSet, NullIsAbsent) {
  for (const ParameterInfo& info : parameter_table()) {
    EXPECT_NO_THROW(resolved({{std::string(info.name), "null"}})) << info.name;
  }
  EXPECT_EQ(resolved({{"max_new_tokens", "5"}, {"max_new_tokens", "null"}}).max_new_tokens, 5);
}

TEST(ParameterSet, EndTokens) {
  model_info::ModelInfo model;
  model.eos_token_ids = {3, 500, 4};  // 500 is outside the vocabulary: it is never drawn.
  EXPECT_THAT(resolved({}, model).eos_token_ids, ElementsAre(3, 4));
  EXPECT_THAT(resolved({{"eos_token_id", "7"}}, model).eos_token_ids, ElementsAre(7));
  EXPECT_THAT(resolved({{"eos_token_id", "[]"}}, model).eos_token_ids, IsEmpty());
  EXPECT_THAT(resolved({{"eos_token_id", "null"}}, model).eos_token_ids, ElementsAre(3, 4));
  EXPECT_THAT(resolved({{"ignore_eos_token", "true"}}, model).eos_token_ids, IsEmpty());
  EXPECT_THAT(resolved({{"ignore_eos_token", "false"}}, model).eos_token_ids, ElementsAre(3, 4));
  EXPECT_THAT(resolved({{"eos_token_id", "7"}, {"ignore_eos", "true"}}, model).eos_token_ids, IsEmpty());
  ParameterSet none;
  EXPECT_TRUE(none.set("eos_token_id", nullptr, true));
  EXPECT_THAT(none.resolve(model, kVocab).eos_token_ids, IsEmpty());
}

TEST(ParameterSet, WhenItSamples) {
  EXPECT_FALSE(resolved({}).do_sample);
  EXPECT_TRUE(resolved({{"temperature", "0.7"}}).do_sample);
  EXPECT_FALSE(resolved({{"temperature", "0"}}).do_sample);
  EXPECT_FALSE(resolved({{"temperature", "0"}, {"do_sample", "true"}}).do_sample);
  EXPECT_FALSE(resolved({{"temperature", "0.7"}, {"do_sample", "false"}}).do_sample);
  EXPECT_TRUE(resolved({{"do_sample", "true"}}).do_sample);
  EXPECT_FALSE(resolved({{"top_p", "0.9"}, {"top_k", "5"}}).do_sample);
  model_info::ModelInfo model;
  model.generation.do_sample = true;
  model.generation.temperature = 0.6;
  EXPECT_TRUE(resolved({}, model).do_sample);
  EXPECT_EQ(resolved({}, model).temperature, 0.6f);
  EXPECT_EQ(resolved({{"temperature", "0.25"}}, model).temperature, 0.25f);
  EXPECT_FALSE(resolved({{"temperature", "0"}}, model).do_sample);
  EXPECT_FALSE(resolved({{"do_sample", "false"}}, model).do_sample);
  model.generation.do_sample = false;
  EXPECT_FALSE(resolved({{"temperature", "0.7"}}, model).do_sample);
  model.generation.do_sample.reset();  // The model's temperature alone is no reason to sample.
  EXPECT_FALSE(resolved({}, model).do_sample);
}

TEST(ParameterSet, ModelDefaultsApplyUnderneath) {
  model_info::ModelInfo model;
  auto& d = model.generation;
  d.do_sample = true;
  d.temperature = 0.5;
  d.top_k = 50;
  d.top_p = 0.75;
  d.min_p = 0.25;
  d.typical_p = 0.875;
  d.repetition_penalty = 1.25;
  d.max_new_tokens = 200;
  d.min_new_tokens = 3;
  d.min_length = 4;
  d.no_repeat_ngram_size = 5;
  d.suppress_tokens = {{1, 1000, 2}};
  d.bad_words_ids = {{{1, 2}, {3, 1000}}};
  d.num_return_sequences = 2;
  Parameters p = resolved({}, model);
  EXPECT_EQ(p.top_k, 50);
  EXPECT_EQ(p.top_p, 0.75f);
  EXPECT_EQ(p.min_p, 0.25f);
  EXPECT_EQ(p.typical_p, 0.875f);
  EXPECT_EQ(p.repetition_penalty, 1.25f);
  EXPECT_EQ(p.max_new_tokens, 200);
  EXPECT_EQ(p.min_new_tokens, 3);
  EXPECT_EQ(p.min_length, 4);
  EXPECT_EQ(p.no_repeat_ngram_size, 5);
  EXPECT_THAT(p.suppress_tokens, ElementsAre(1, 2));
  EXPECT_THAT(p.bad_words_ids, ElementsAre(ElementsAre(1, 2)));
  EXPECT_EQ(p.n, 2);
  p = resolved(
      {{"top_k", "0"}, {"top_p", "1"}, {"max_new_tokens", "2"}, {"suppress_tokens", "[]"}, {"n", "1"}},
      model);
  EXPECT_EQ(p.top_k, 0);
  EXPECT_EQ(p.top_p, 1.0f);
  EXPECT_EQ(p.max_new_tokens, 2);
  EXPECT_THAT(p.suppress_tokens, IsEmpty());
  EXPECT_EQ(p.n, 1);
  EXPECT_EQ(resolved({{"do_sample", "false"}}, model).n, 1);
}

TEST(ParameterSet, MaxLengthCountsThePrompt) {
  EXPECT_EQ(resolved({{"max_length", "20"}}, {}, 15).max_new_tokens, 5);
  EXPECT_EQ(resolved({{"max_length", "20"}, {"max_new_tokens", "7"}}, {}, 15).max_new_tokens, 7);
  expect_error({{"max_length", "20"}}, {"'max_length'", "above the length of the prompt, 20, found 20"},
               core::ErrorKind::kInvalidArgument, {}, 20);
  model_info::ModelInfo model;
  model.generation.max_length = 100;
  EXPECT_EQ(resolved({}, model, 15).max_new_tokens, 85);
  EXPECT_EQ(resolved({}, model, 100).max_new_tokens, 30);
  model.generation.max_new_tokens = 9;
  EXPECT_EQ(resolved({}, model, 15).max_new_tokens, 9);
  EXPECT_EQ(resolved({{"max_length", "20"}}, model, 15).max_new_tokens, 5);
}

TEST(ParameterSet, CombinationsThatCannotBe) {
  expect_error({{"min_new_tokens", "6"}, {"max_new_tokens", "5"}}, {"'min_new_tokens'", "5", "6"});
  EXPECT_NO_THROW(resolved({{"min_new_tokens", "60"}}));
  expect_error({{"n", "2"}}, {"'n' must be 1 without sampling", "found 2", "temperature"});
}

TEST(ParameterSet, OthersParametersAreAcceptedOnlyWhenOff) {
  const Settings off = {{"penalty_alpha", "0"}, {"guidance_scale", "1.0"}, {"force_words_ids", "[]"},
                        {"logit_bias", "{}"},   {"use_cache", "true"},     {"forced_eos_token_id", "null"}};
  for (const auto& setting : off) EXPECT_NO_THROW(resolved({setting})) << setting.first;
  const Settings on = {{"penalty_alpha", "0.6"},
                       {"guidance_scale", "1.5"},
                       {"logit_bias", "{\"1\":5}"},
                       {"force_words_ids", "[[1]]"}};
  for (const auto& setting : on) {
    expect_error({setting}, {"parameter '" + setting.first + "' is not supported yet: only"},
                 core::ErrorKind::kUnsupported);
  }
}

TEST(ParameterSet, UnknownNamesAreReportedAndSuggested) {
  ParameterSet set;
  EXPECT_FALSE(set.set("temprature", 1.0));
  EXPECT_FALSE(set.set("", 1.0));
  EXPECT_FALSE(set.set("details", true));
  EXPECT_EQ(ParameterSet::suggestion("temprature"), "temperature");
  EXPECT_EQ(ParameterSet::suggestion("max_new_token"), "max_new_tokens");
  EXPECT_EQ(ParameterSet::suggestion("maxNewTokens"), "max_new_tokens");
  EXPECT_EQ(ParameterSet::suggestion("top-p"), "top_p");
  EXPECT_EQ(ParameterSet::suggestion("repetiton_penalty"), "repetition_penalty");
  EXPECT_EQ(ParameterSet::suggestion("num_beam"), "num_beams");
  EXPECT_EQ(ParameterSet::suggestion("beamWidth"), "beam_width");
  EXPECT_EQ(ParameterSet::suggestion("colour"), "");
  EXPECT_EQ(ParameterSet::suggestion(std::string(100000, 'x')), "");
}

TEST(ParameterTable, IsCompleteAndUnambiguous) {
  std::set<std::string_view> names;
  for (const ParameterInfo& info : parameter_table()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    for (const auto alias : info.aliases) EXPECT_TRUE(names.insert(alias).second) << alias;
    EXPECT_FALSE(info.type.empty());
    EXPECT_FALSE(info.allowed.empty());
    EXPECT_TRUE(info.meaning.ends_with('.')) << info.name;
    EXPECT_EQ(info.meaning.find('\n'), std::string_view::npos);
  }
  EXPECT_GE(names.size(), 40u);
}

TEST(ParameterSet, ReadsTheParametersOfEveryGoldenCase) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/llama_gqa/expected.json");
  int cases = 0, beams = 0;
  for (const char* fixture : {"falcon_7b", "llama_gqa", "gpt_neox"}) {
    const auto path = testing::test_data() / "golden" / fixture / "expected.json";
    const auto document = core::parse_json(core::read_file(path, 1 << 24), fixture);
    const core::JsonView view(document, fixture);
    const std::int64_t vocab = view.at("vocab_size").as_int(1, 1 << 20);
    for (const auto& item : view.at("generate").items()) {
      ParameterSet set;
      std::int64_t beam = 1;
      for (const auto& [name, value] : item.at("params").members()) {
        EXPECT_TRUE(set.set(name, value.value(), true)) << name;
        if (name == "num_beams") beam = value.as_int(1, 100);
      }
      const Parameters parameters = set.resolve({}, vocab);
      EXPECT_EQ(parameters.max_new_tokens, 24);
      EXPECT_FALSE(parameters.do_sample);
      EXPECT_EQ(parameters.num_beams, beam);
      ++(beam > 1 ? beams : cases);
    }
  }
  EXPECT_GE(cases, 20);
  EXPECT_GE(beams, 10);
}

TEST(FinishReasons, HaveLmisNames) {
  EXPECT_STREQ(to_string(FinishReason::kLength), "length");
  EXPECT_STREQ(to_string(FinishReason::kEosToken), "eos_token");
  EXPECT_STREQ(to_string(FinishReason::kStopSequence), "stop_sequence");
  EXPECT_STREQ(to_string(FinishReason::kError), "error");
  EXPECT_STREQ(to_string(FinishReason::kAbort), "abort");
}

}  // namespace
}  // namespace peregrine::generation
