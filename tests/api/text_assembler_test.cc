// SPDX-License-Identifier: Apache-2.0
#include "api/text_assembler.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "fake_model.h"
#include "text/detokenizer.h"
#include "text/unicode.h"

namespace peregrine::api {
namespace {

using generation::FinishReason;

const text::Tokenizer& tokenizer() {
  static const auto kTokenizer = text::Tokenizer::load(testing::example_directory());
  return *kTokenizer;
}

generation::SampledToken token(std::int32_t id) { return {{id, -1.0f}, {}}; }

/// The outcome of a sequence.
struct Outcome {
  std::vector<std::int32_t> ids;
  std::vector<std::string> texts;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

/// What the header promises, from the text as a whole.
struct Oracle {
  Oracle(const std::vector<std::int32_t>& tokens, const TextOptions& given) : ids(tokens), options(given) {
    text::StreamingDetokenizer detokenizer(tokenizer(), options.skip_special_tokens);
    for (const std::int32_t id : ids) pieces.push_back(detokenizer.push(id));
    if (std::string rest = detokenizer.finish(); !rest.empty()) {
      ids.push_back(kNoToken);  // a piece of its own, until it is added to the last token
      pieces.push_back(std::move(rest));
    }
    for (const std::string& piece : pieces) whole += piece;
  }

  Outcome outcome() const {
    for (std::size_t end = 1; end <= whole.size(); ++end) {
      std::size_t longest = 0;
      for (const std::string& stop : options.stop) {
        if (std::string_view(whole).substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
      }
      if (longest > 0) return cut(options.include_stop_in_text ? end : end - longest, end);
    }
    return joined({ids, pieces, false});
  }

  /// Tokens that can be given out once `count` have come and none of them ends a match.
  std::size_t certain(std::size_t count) const {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += pieces[i];
    std::size_t held = 0;
    for (const std::string& stop : options.stop) {
      for (std::size_t size = 1; size < stop.size() && size <= text.size(); ++size) {
        if (text.ends_with(std::string_view(stop).substr(0, size))) held = std::max(held, size);
      }
    }
    std::size_t given = 0;
    std::size_t end = 0;
    while (given < count && end + pieces[given].size() <= text.size() - held) end += pieces[given++].size();
    return given;
  }

  std::vector<std::int32_t> ids;
  TextOptions options;
  std::vector<std::string> pieces;
  std::string whole;

 private:
  Outcome cut(std::size_t position, std::size_t match_end) const {
    Outcome out;
    out.stopped = true;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < ids.size() && begin < match_end; ++i) {
      const std::size_t end = begin + pieces[i].size();
      if (end <= position || begin < position) {
        out.ids.push_back(ids[i]);
        out.texts.push_back(whole.substr(begin, std::min(end, position) - begin));
      }
      begin = end;
    }
    return joined(std::move(out));
  }

  static Outcome joined(Outcome out) {
    if (out.ids.size() > 1 && out.ids.back() == kNoToken) {
      out.texts[out.texts.size() - 2] += out.texts.back();
      out.texts.pop_back();
      out.ids.pop_back();
    }
    return out;
  }
};

Outcome as_outcome(const std::vector<TextToken>& tokens, bool stopped) {
  Outcome out;
  for (const TextToken& given : tokens) {
    out.ids.push_back(given.token.token.id);
    out.texts.push_back(given.text);
  }
  out.stopped = stopped;
  return out;
}

Outcome run(const std::vector<std::int32_t>& ids, const TextOptions& options) {
  TextAssembler assembler(&tokenizer(), options);
  std::vector<TextToken> out;
  for (const std::int32_t id : ids) assembler.push(token(id), out);
  const FinishReason reason = assembler.finish(FinishReason::kLength, out);
  EXPECT_EQ(reason == FinishReason::kStopSequence, assembler.stopped());
  return as_outcome(out, assembler.stopped());
}

/// Tokens whose texts are short and alike, so that stop strings begin everywhere; halves of characters; the
/// special token.
std::vector<std::int32_t> busy_tokens() {
  std::vector<std::int32_t> ids = {0, 0};
  for (std::int32_t id = 0; id < tokenizer().vocab_size(); ++id) {
    const std::vector<std::int32_t> one = {id};
    const std::string text = tokenizer().decode(one, false);
    if (text.size() <= 3 && text.find_first_not_of("aent") == std::string::npos) ids.push_back(id);
  }
  // U+20AC in three tokens, and the first of them alone.
  for (const std::int32_t id : testing::tokens_of("\u20ac\u00e9")) ids.push_back(id);
  return ids;
}

std::vector<std::int32_t> random_ids(std::mt19937& random, const std::vector<std::int32_t>& among) {
  std::vector<std::int32_t> ids;
  for (std::size_t i = random() % 24; i > 0; --i) ids.push_back(among[random() % among.size()]);
  return ids;
}

TextOptions random_options(std::mt19937& random, const std::string& whole) {
  TextOptions options;
  options.include_stop_in_text = random() % 3 == 0;
  options.skip_special_tokens = random() % 3 != 0;
  for (std::size_t i = random() % 5; i > 0; --i) {
    std::string stop;
    if (!whole.empty() && random() % 2 == 0) {
      // Part of the text: it is found somewhere, perhaps behind one that begins like it.
      const std::size_t begin = random() % whole.size();
      stop = text::to_valid_utf8(whole.substr(begin, 1 + random() % 8));
    } else {
      for (std::size_t k = 1 + random() % 6; k > 0; --k) stop += "aent\xEF\xBF\xBD"[random() % 4];
    }
    options.stop.push_back(stop);
  }
  return options;
}

TEST(TextAssembler, AgreesWithASearchInTheWholeText) {
  std::mt19937 random(1);
  const auto among = busy_tokens();
  ASSERT_GT(among.size(), 10u);
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    const auto ids = random_ids(random, among);
    const TextOptions options = random_options(random, Oracle(ids, {}).whole);
    const Outcome expected = Oracle(ids, options).outcome();
    EXPECT_EQ(run(ids, options), expected) << "round " << round;
    stopped += expected.stopped ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(stopped, 3000);
}

TEST(TextAssembler, GivesOutWhatIsCertainAtOnceAndTakesNothingBack) {
  std::mt19937 random(2);
  const auto among = busy_tokens();
  for (int round = 0; round < 5000; ++round) {
    const auto ids = random_ids(random, among);
    const Oracle oracle(ids, random_options(random, Oracle(ids, {}).whole));
    const Outcome expected = oracle.outcome();
    TextAssembler assembler(&tokenizer(), oracle.options);
    std::vector<TextToken> out;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      assembler.push(token(ids[i]), out);
      if (assembler.stopped()) break;
      ASSERT_EQ(out.size(), oracle.certain(i + 1)) << "round " << round << " token " << i;
      for (std::size_t k = 0; k < out.size(); ++k) {
        ASSERT_LT(k, expected.ids.size());
        ASSERT_EQ(out[k].token.token.id, expected.ids[k]);
        ASSERT_EQ(expected.texts[k].substr(0, out[k].text.size()), out[k].text);
      }
    }
  }
}

TEST(TextAssembler, CutsTextAcrossTokens) {
  const auto ids = testing::tokens_of("O Romeo, wherefore art thou Romeo?");
  const Outcome whole = run(ids, {.stop = {"fore art"}});
  std::string text;
  for (const auto& piece : whole.texts) text += piece;
  EXPECT_EQ(text, "O Romeo, where");
  EXPECT_TRUE(whole.stopped);
  EXPECT_LT(whole.ids.size(), ids.size());
  const Outcome shown = run(ids, {.stop = {"fore art"}, .include_stop_in_text = true});
  text.clear();
  for (const auto& piece : shown.texts) text += piece;
  EXPECT_EQ(text, "O Romeo, wherefore art");
}

TEST(TextAssembler, OfSeveralTheOneThatEndsFirstCounts) {
  const auto ids = testing::tokens_of("abcdefgh");
  const auto text_with = [&](std::vector<std::string> stop) {
    std::string text;
    for (const auto& piece : run(ids, {.stop = std::move(stop)}).texts) text += piece;
    return text;
  };
  EXPECT_EQ(text_with({"bcdefg", "de"}), "abc");     // ends first, though it begins later
  EXPECT_EQ(text_with({"e", "cde", "de"}), "ab");    // of those that end together the longest
  EXPECT_EQ(text_with({"bcdefX", "fgh"}), "abcde");  // the first only seems to match
}

TEST(TextAssembler, SpecialTokensAreMarkedAndHidden) {
  const std::vector<std::int32_t> ids = {testing::tokens_of("a")[0], 0};
  TextAssembler assembler(&tokenizer(), TextOptions());
  std::vector<TextToken> out;
  for (const std::int32_t id : ids) assembler.push(token(id), out);
  EXPECT_EQ(assembler.finish(FinishReason::kEosToken, out), FinishReason::kEosToken);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_FALSE(out[0].special);
  EXPECT_TRUE(out[1].special);
  EXPECT_EQ(out[1].text, "");
  EXPECT_EQ(run(ids, {.skip_special_tokens = false}).texts[1], "<|endoftext|>");
}

TEST(TextAssembler, HalfACharacterAtTheEndIsNotLost) {
  auto ids = testing::tokens_of("a\u20ac");
  ASSERT_GE(ids.size(), 3u);
  ids.pop_back();
  // Tokens and end at once: the last token has it.
  EXPECT_EQ(run(ids, {}).texts.back(), "\uFFFD");
  // The end comes later: it travels alone.
  TextAssembler assembler(&tokenizer(), TextOptions());
  std::vector<TextToken> out;
  for (const std::int32_t id : ids) assembler.push(token(id), out);
  out.clear();
  assembler.finish(FinishReason::kAbort, out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].token.token.id, kNoToken);
  EXPECT_EQ(out[0].text, "\uFFFD");
}

TEST(TextAssembler, WithoutATokenizerTokensHaveNoText) {
  TextAssembler assembler(nullptr, {.stop = {"a"}});
  std::vector<TextToken> out;
  assembler.push(token(5), out);
  EXPECT_EQ(assembler.finish(FinishReason::kLength, out), FinishReason::kLength);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].text, "");
}

TEST(StopStrings, LongRepetitiveStringsTakeLinearTime) {
  // With restarts instead of failure links this would be 64 * 1024 comparisons for each of 200,000 bytes.
  std::vector<std::string> stops;
  for (std::size_t i = 0; i < 64; ++i) stops.push_back(std::string(1024 - i, 'a') + "b");
  const StopStrings stop(stops);
  StopStrings::Node node = StopStrings::kStart;
  for (int i = 0; i < 200000; ++i) {
    node = stop.next(node, 'a');
    ASSERT_EQ(stop.matched(node), 0u);
  }
  EXPECT_EQ(stop.held(node), 1024u);
  EXPECT_EQ(stop.matched(stop.next(node, 'b')), 1025u);
}

}  // namespace
}  // namespace peregrine::api
