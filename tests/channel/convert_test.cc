// SPDX-License-Identifier: Apache-2.0
#include "channel/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace peregrine::channel {
namespace {

using core::ErrorKind;
using generation::FinishReason;
using generation::Parameters;
using ::testing::HasSubstr;

constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();

/// Every field except the seed. A field that is new does not compile here: it belongs into the messages too.
auto fields(const Parameters& parameters) {
  const auto& [max_new_tokens, min_new_tokens, min_length, do_sample, temperature, top_k, top_p, min_p,
               typical_p, epsilon_cutoff, eta_cutoff, seed, repetition_penalty, presence_penalty,
               frequency_penalty, no_repeat_ngram_size, encoder_repetition_penalty,
               encoder_no_repeat_ngram_size, sequence_bias, bad_words_ids, suppress_tokens,
               begin_suppress_tokens, forced_bos_token_id, forced_eos_token_ids,
               exponential_decay_length_penalty, renormalize_logits, eos_token_ids, stop_token_ids, n,
               best_of, num_beams, num_beam_groups, diversity_penalty, length_penalty, early_stopping,
               stop_strings, top_n_tokens, prompt_logprobs] = parameters;
  static_cast<void>(seed);
  return std::tie(max_new_tokens, min_new_tokens, min_length, do_sample, temperature, top_k, top_p, min_p,
                  typical_p, epsilon_cutoff, eta_cutoff, repetition_penalty, presence_penalty,
                  frequency_penalty, no_repeat_ngram_size, encoder_repetition_penalty,
                  encoder_no_repeat_ngram_size, sequence_bias, bad_words_ids, suppress_tokens,
                  begin_suppress_tokens, forced_bos_token_id, forced_eos_token_ids,
                  exponential_decay_length_penalty, renormalize_logits, eos_token_ids, stop_token_ids, n,
                  best_of, num_beams, num_beam_groups, diversity_penalty, length_penalty, early_stopping,
                  stop_strings, top_n_tokens, prompt_logprobs);
}

class Draw {
 public:
  explicit Draw(std::uint32_t seed) : random_(seed) {}

  /// Often one of the ends.
  std::int32_t integer(std::int32_t low, std::int32_t high = kMax) {
    const auto pick = random_() % 4;
    if (pick == 0) return low;
    if (pick == 1) return high;
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }
  float number(float low, float high) {
    const auto pick = random_() % 8;
    if (pick == 0) return low;
    if (pick == 1) return high;
    return std::uniform_real_distribution<float>(low, high)(random_);
  }
  std::vector<std::int32_t> ids(std::size_t least, std::size_t most) {
    std::vector<std::int32_t> ids(least + random_() % (most - least + 1));
    for (auto& id : ids) id = integer(0);
    return ids;
  }
  bool coin() { return random_() % 2 == 0; }

 private:
  std::mt19937 random_;
};

Parameters draw_parameters(std::uint32_t seed) {
  Draw draw(seed);
  Parameters p;
  p.max_new_tokens = draw.integer(1);
  p.min_new_tokens = draw.integer(0);
  p.min_length = draw.integer(0);
  p.do_sample = draw.coin();
  p.temperature = draw.number(0, 1e6f);
  p.top_k = draw.integer(0);
  p.top_p = draw.number(0, 1);
  p.min_p = draw.number(0, 1);
  p.typical_p = draw.number(0, 1);
  p.epsilon_cutoff = draw.number(0, 1);
  p.eta_cutoff = draw.number(0, 1);
  p.encoder_repetition_penalty = draw.number(0.001f, 1000);
  p.encoder_no_repeat_ngram_size = draw.integer(0, 1024);
  for (int i = draw.integer(0, 3); i > 0; --i)
    p.sequence_bias.push_back({draw.ids(1, 5), draw.number(-9, 9)});
  p.begin_suppress_tokens = draw.ids(0, 3);
  if (draw.coin()) p.forced_bos_token_id = draw.integer(0);
  p.forced_eos_token_ids = draw.ids(0, 3);
  if (draw.coin()) p.exponential_decay_length_penalty = {draw.integer(0), draw.number(0.001f, 1000)};
  p.renormalize_logits = draw.coin();
  p.repetition_penalty = draw.number(0.001f, 1000);
  p.presence_penalty = draw.number(-2, 2);
  p.frequency_penalty = draw.number(-2, 2);
  p.no_repeat_ngram_size = draw.integer(0, 1024);
  for (int i = draw.integer(0, 3); i > 0; --i) p.bad_words_ids.push_back(draw.ids(1, 5));
  p.suppress_tokens = draw.ids(0, 100);
  p.eos_token_ids = draw.ids(0, 3);
  p.stop_token_ids = draw.ids(0, 3);
  p.num_beams = draw.integer(1);
  p.n = draw.integer(1, p.num_beams > 1 ? p.num_beams : kMax);
  p.best_of = draw.integer(1);
  p.num_beam_groups = draw.integer(1);
  p.diversity_penalty = draw.number(-10, 10);
  p.length_penalty = draw.number(-10, 10);
  p.early_stopping = static_cast<generation::EarlyStopping>(draw.integer(0, 2));
  for (int i = draw.integer(0, 3); i > 0; --i) p.stop_strings.push_back(draw.coin() ? "\n" : "\xf0\x9f");
  p.top_n_tokens = draw.integer(0);
  if (draw.coin()) p.prompt_logprobs = draw.integer(0);
  return p;
}

/// Over the wire and back.
template <typename Message, typename Value>
Value there_and_back(const Value& value) {
  Message message;
  to_message(value, message);
  Message received;
  EXPECT_TRUE(received.ParseFromString(message.SerializeAsString()));
  return from_message(received);
}

TEST(ConvertParameters, ThereAndBack) {
  EXPECT_EQ(fields(there_and_back<wire::Sampling>(Parameters())), fields(Parameters()));
  for (std::uint32_t seed = 0; seed < 2000; ++seed) {
    const Parameters parameters = draw_parameters(seed);
    EXPECT_EQ(fields(there_and_back<wire::Sampling>(parameters)), fields(parameters)) << seed;
  }
}

TEST(ConvertParameters, ReplacesWhatTheMessageHeld) {
  wire::Sampling message;
  to_message(draw_parameters(1), message);
  to_message(Parameters(), message);
  EXPECT_EQ(fields(from_message(message)), fields(Parameters()));
}

/// What is said of a message whose one field is changed; "" where it is taken.
std::string refusal(const std::function<void(wire::Sampling&)>& change) {
  wire::Sampling message;
  to_message(Parameters(), message);
  change(message);
  try {
    from_message(message);
    return "";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
}

TEST(ConvertParameters, RefusesNumbersThatAreNotFinite) {
  const std::vector<std::pair<const char*, void (wire::Sampling::*)(float)>> setters = {
      {"temperature", &wire::Sampling::set_temperature},
      {"top_p", &wire::Sampling::set_top_p},
      {"min_p", &wire::Sampling::set_min_p},
      {"typical_p", &wire::Sampling::set_typical_p},
      {"repetition_penalty", &wire::Sampling::set_repetition_penalty},
      {"presence_penalty", &wire::Sampling::set_presence_penalty},
      {"frequency_penalty", &wire::Sampling::set_frequency_penalty},
      {"diversity_penalty", &wire::Sampling::set_diversity_penalty},
      {"length_penalty", &wire::Sampling::set_length_penalty},
      {"epsilon_cutoff", &wire::Sampling::set_epsilon_cutoff},
      {"eta_cutoff", &wire::Sampling::set_eta_cutoff},
      {"encoder_repetition_penalty", &wire::Sampling::set_encoder_repetition_penalty},
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const auto& [name, set] : setters) {
    for (const float bad : {std::nanf(""), -std::nanf(""), kInfinity, -kInfinity}) {
      EXPECT_THAT(refusal([&, set = set](auto& m) { (m.*set)(bad); }), HasSubstr(name)) << bad;
    }
    EXPECT_EQ(refusal([set = set](auto& m) { (m.*set)(1); }), "") << name;
  }
}

TEST(ConvertParameters, RefusesWhatIsOutOfRange) {
  EXPECT_EQ(refusal([](auto&) {}), "");
  EXPECT_THAT(refusal([](auto& m) { m.Clear(); }), HasSubstr("max_new_tokens is 0"));
  EXPECT_THAT(refusal([](auto& m) { m.set_n(0); }), HasSubstr("n is 0; it must be at least 1"));
  EXPECT_THAT(refusal([](auto& m) { m.set_n(-kMax); }), HasSubstr("n is"));
  EXPECT_THAT(refusal([](auto& m) { m.set_num_beams(0); }), HasSubstr("num_beams"));
  EXPECT_THAT(refusal([](auto& m) { m.set_best_of(0); }), HasSubstr("best_of is 0; it must be at least 1"));
  EXPECT_THAT(refusal([](auto& m) {
                m.set_num_beams(2);
                m.set_n(3);
              }),
              HasSubstr("n is 3; it must be at most num_beams, 2"));
  EXPECT_THAT(refusal([](auto& m) { m.set_num_beam_groups(0); }), HasSubstr("num_beam_groups"));
  EXPECT_THAT(refusal([](auto& m) { m.set_early_stopping(3); }), HasSubstr("early_stopping is 3"));
  EXPECT_THAT(refusal([](auto& m) { m.add_stop_strings(""); }), HasSubstr("stop_strings"));
  EXPECT_THAT(refusal([](auto& m) { m.set_prompt_logprobs(-1); }), HasSubstr("prompt_logprobs"));
  EXPECT_THAT(refusal([](auto& m) { m.set_encoder_repetition_penalty(0); }),
              HasSubstr("encoder_repetition_penalty"));
  EXPECT_THAT(refusal([](auto& m) { m.set_encoder_no_repeat_ngram_size(-1); }),
              HasSubstr("encoder_no_repeat_ngram_size"));
  EXPECT_THAT(refusal([](auto& m) { m.add_sequence_bias(); }), HasSubstr("sequence_bias"));
  EXPECT_THAT(refusal([](auto& m) { m.add_begin_suppress_tokens(-1); }), HasSubstr("begin_suppress_tokens"));
  EXPECT_THAT(refusal([](auto& m) { m.set_forced_bos_token_id(-1); }), HasSubstr("forced_bos_token_id"));
  EXPECT_THAT(refusal([](auto& m) { m.add_forced_eos_token_ids(-1); }), HasSubstr("forced_eos_token_ids"));
  EXPECT_THAT(refusal([](auto& m) { m.mutable_exponential_decay_length_penalty(); }),
              HasSubstr("exponential_decay_length_penalty is 0"));
  EXPECT_THAT(refusal([](auto& m) { m.set_min_new_tokens(-1); }), HasSubstr("min_new_tokens"));
  EXPECT_THAT(refusal([](auto& m) { m.set_min_length(-1); }), HasSubstr("min_length"));
  EXPECT_THAT(refusal([](auto& m) { m.set_top_k(-1); }), HasSubstr("top_k"));
  EXPECT_THAT(refusal([](auto& m) { m.set_top_n_tokens(-1); }), HasSubstr("top_n_tokens"));
  EXPECT_THAT(refusal([](auto& m) { m.set_no_repeat_ngram_size(-1); }), HasSubstr("no_repeat_ngram_size"));
  EXPECT_THAT(refusal([](auto& m) { m.set_temperature(-0.1f); }), HasSubstr("temperature"));
  EXPECT_THAT(refusal([](auto& m) { m.set_top_p(1.1f); }), HasSubstr("top_p"));
  EXPECT_THAT(refusal([](auto& m) { m.set_min_p(-0.1f); }), HasSubstr("min_p"));
  EXPECT_THAT(refusal([](auto& m) { m.set_typical_p(2); }), HasSubstr("typical_p"));
  EXPECT_THAT(refusal([](auto& m) { m.set_repetition_penalty(0); }), HasSubstr("repetition_penalty"));
  EXPECT_THAT(refusal([](auto& m) { m.add_bad_words_ids(); }), HasSubstr("bad_words_ids"));
  EXPECT_THAT(refusal([](auto& m) { m.add_bad_words_ids()->add_ids(-1); }), HasSubstr("bad_words_ids"));
  EXPECT_THAT(refusal([](auto& m) { m.add_suppress_tokens(-2); }), HasSubstr("suppress_tokens[0] is -2"));
  EXPECT_THAT(refusal([](auto& m) { m.add_eos_token_ids(-1); }), HasSubstr("eos_token_ids"));
  EXPECT_THAT(refusal([](auto& m) { m.add_stop_token_ids(-1); }), HasSubstr("stop_token_ids"));
}

TEST(ConvertSampledToken, ThereAndBack) {
  // No token that may be drawn: the log-probability is minus infinity.
  const generation::SampledToken token{{7, -std::numeric_limits<float>::infinity()},
                                       {{1, -0.5f}, {kMax, -3}}};
  const auto back = there_and_back<wire::SampledToken>(token);
  EXPECT_EQ(back.token.id, 7);
  EXPECT_EQ(back.token.log_prob, token.token.log_prob);
  ASSERT_EQ(back.top.size(), 2);
  EXPECT_EQ(back.top[0].id, 1);
  EXPECT_EQ(back.top[0].log_prob, -0.5f);
  EXPECT_EQ(back.top[1].id, kMax);
}

TEST(ConvertFinish, ThereAndBack) {
  for (const auto reason : {FinishReason::kLength, FinishReason::kEosToken, FinishReason::kStopSequence,
                            FinishReason::kError, FinishReason::kAbort}) {
    EXPECT_EQ(from_message(to_message(reason)), reason);
    EXPECT_EQ(static_cast<int>(to_message(reason)), static_cast<int>(reason) + 1);
  }
  EXPECT_EQ(from_message(wire::RUNNING), std::nullopt);
  for (const int value : {-1, 6, 1000}) {
    try {
      from_message(static_cast<wire::Finish>(value));
      ADD_FAILURE() << value;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDataLoss);
    }
  }
}

TEST(ConvertError, ThereAndBack) {
  for (const auto kind :
       {ErrorKind::kInvalidArgument, ErrorKind::kNotFound, ErrorKind::kUnsupported, ErrorKind::kOverloaded,
        ErrorKind::kDeadline, ErrorKind::kDataLoss, ErrorKind::kInternal}) {
    // A path may be in it, which need not be UTF-8.
    const auto back = there_and_back<wire::Error>(core::Error(kind, "no file caf\xe9"));
    EXPECT_EQ(back.kind(), kind);
    EXPECT_STREQ(back.what(), "no file caf\xe9");
  }
  wire::Error newer;
  newer.set_kind(static_cast<wire::Error::Kind>(99));
  EXPECT_EQ(from_message(newer).kind(), ErrorKind::kInternal);
}

}  // namespace
}  // namespace peregrine::channel
