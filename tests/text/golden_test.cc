// SPDX-License-Identifier: Apache-2.0
// Real tokenizer files against what the Rust library tokenizers makes of some 200 texts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "golden_data.h"
#include "support/test_data.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

using testing::golden_tokenizer;
using testing::ids_of;
using testing::read_lines;
using testing::string_of;
using testing::strings_of;

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path file(const char* name) const { return testing::family_folder(GetParam()) / name; }
};

std::vector<CodePointRange> ranges_of(const boost::json::value& array) {
  std::vector<CodePointRange> out;
  for (const auto& pair : array.as_array()) {
    out.push_back({static_cast<std::uint32_t>(pair.as_array().at(0).as_int64()),
                   static_cast<std::uint32_t>(pair.as_array().at(1).as_int64())});
  }
  return out;
}

std::string print(const std::vector<CodePointRange>& ranges) {
  std::string out;
  for (const auto& range : ranges) out += fmt::format("[{},{}) ", range.begin, range.end);
  return out;
}

TEST_P(Golden, EncodesAndDecodes) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/" + GetParam());
  const auto tokenizer = golden_tokenizer(GetParam());
  const auto cases = read_lines(file("cases.jsonl.gz"));
  ASSERT_GT(cases.size(), 400U);
  for (const auto& row : cases) {
    const std::string text = string_of(row.at("text"));
    const Tokenizer::EncodeOptions options = {.add_special_tokens = row.at("add_special_tokens").as_bool(),
                                              .parse_special = row.at("parse_special").as_bool()};
    const std::vector<std::int32_t> ids = ids_of(row.at("ids"));
    SCOPED_TRACE(fmt::format("{} {} add_special_tokens={} parse_special={}: {}", GetParam(),
                             string_of(row.at("id")), options.add_special_tokens, options.parse_special,
                             core::quoted(text)));
    EXPECT_EQ(tokenizer->encode(text, options), ids);
    const Tokenizer::Encoding encoding = tokenizer->encode_with_offsets(text, options);
    EXPECT_EQ(encoding.ids, ids);
    const auto offsets = ranges_of(row.at("offsets"));
    EXPECT_EQ(print(encoding.offsets), print(offsets));
    EXPECT_EQ(tokenizer->decode(ids, false), string_of(row.at("decoded")));
    EXPECT_EQ(tokenizer->decode(ids, true), string_of(row.at("decoded_skip_special")));
  }
}

void check_stream(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, bool skip_special,
                  const std::vector<std::string>& deltas) {
  StreamingDetokenizer stream(tokenizer, skip_special);
  std::vector<std::string> pieces;
  for (const std::int32_t id : ids) pieces.push_back(stream.push(id));
  EXPECT_EQ(pieces, deltas);
}

TEST_P(Golden, Streams) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/" + GetParam());
  const auto tokenizer = golden_tokenizer(GetParam());
  const auto cases = read_lines(file("streaming.jsonl.gz"));
  ASSERT_GT(cases.size(), 20U);
  for (const auto& row : cases) {
    SCOPED_TRACE(GetParam() + " " + string_of(row.at("id")));
    const std::vector<std::int32_t> ids = ids_of(row.at("ids"));
    check_stream(*tokenizer, ids, false, strings_of(row.at("deltas")));
    if (const auto* deltas = row.as_object().if_contains("deltas_skip_special")) {
      check_stream(*tokenizer, ids, true, strings_of(*deltas));
    }
    StreamingDetokenizer stream(*tokenizer, false);
    std::string whole;
    for (const std::int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      whole += piece;
    }
    const std::string rest = stream.finish();
    EXPECT_TRUE(is_valid_utf8(rest));
    const auto* flush = row.as_object().if_contains("final_flush");
    if (flush == nullptr) {
      EXPECT_EQ(rest, "");
    } else if (!flush->is_null()) {
      EXPECT_EQ(rest, string_of(*flush));
    }
    // null: the whole decoding takes back what had been shown.
    if (flush == nullptr || !flush->is_null()) {
      EXPECT_EQ(whole + rest, string_of(row.at("decoded")));
    }
  }
}

TEST_P(Golden, DecodesArbitraryIds) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/" + GetParam());
  const auto tokenizer = golden_tokenizer(GetParam());
  const auto cases = read_lines(file("decode.jsonl.gz"));
  ASSERT_GT(cases.size(), 40U);
  bool saw_out_of_range = false;
  for (const auto& row : cases) {
    SCOPED_TRACE(GetParam() + " " + string_of(row.at("id")));
    saw_out_of_range = saw_out_of_range || row.at("id").as_string() == "OOR";
    const std::vector<std::int32_t> ids = ids_of(row.at("ids"));
    EXPECT_EQ(tokenizer->decode(ids, false), string_of(row.at("decoded")));
    EXPECT_EQ(tokenizer->decode(ids, true), string_of(row.at("decoded_skip_special")));
  }
  EXPECT_TRUE(saw_out_of_range);
}

INSTANTIATE_TEST_SUITE_P(Families, Golden,
                         ::testing::Values("falcon", "gpt2", "gpt-neox-20b", "llama-3", "qwen2.5",
                                           "starcoder2", "phi-2", "roberta-base", "opt", "llama-2",
                                           "phi-3-mini", "mistral-7b", "t5-small", "bert-base-uncased",
                                           "minilm-l6-v2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

TEST(GoldenDirectory, ConfigBesideTokenizerChangesNothing) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/falcon");
  for (const std::string family :
       {"falcon", "gpt2", "phi-2", "llama-2", "phi-3-mini", "mistral-7b", "t5-small"}) {
    SCOPED_TRACE(family);
    const auto loaded = Tokenizer::load(testing::family_folder(family));
    const auto parsed = golden_tokenizer(family);
    ASSERT_EQ(loaded->vocab_size(), parsed->vocab_size());
    for (std::int32_t id = 0; id < parsed->vocab_size(); ++id) {
      ASSERT_EQ(loaded->token(id), parsed->token(id));
      ASSERT_EQ(loaded->is_special(id), parsed->is_special(id)) << id;
    }
    for (const auto& row : read_lines(testing::family_folder(family) / "cases.jsonl.gz")) {
      if (!row.at("parse_special").as_bool()) continue;
      EXPECT_EQ(loaded->encode(string_of(row.at("text")),
                               {.add_special_tokens = row.at("add_special_tokens").as_bool()}),
                ids_of(row.at("ids")));
    }
  }
}

TEST(GoldenDirectory, Truncation) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/minilm-l6-v2");
  const auto tokenizer = golden_tokenizer("minilm-l6-v2");
  ASSERT_EQ(tokenizer->truncation_length(), 256U);
  std::size_t cut = 0;
  for (const auto& row : read_lines(testing::family_folder("minilm-l6-v2") / "cases_truncpad.jsonl.gz")) {
    const std::string text = string_of(row.at("text"));
    Tokenizer::EncodeOptions options = {.add_special_tokens = row.at("add_special_tokens").as_bool()};
    std::vector<std::int32_t> ids = ids_of(row.at("ids"));
    // The file's padding is behind the tokens, and masked.
    const auto mask = ids_of(row.at("attention_mask"));
    ids.resize(static_cast<std::size_t>(std::count(mask.begin(), mask.end(), 1)));
    if (tokenizer->encode(text, options).size() > 256) ++cut;
    options.max_tokens = tokenizer->truncation_length();
    EXPECT_EQ(tokenizer->encode(text, options), ids) << core::quoted(text);
    EXPECT_EQ(tokenizer->encode_with_offsets(text, options).offsets.size(), ids.size());
  }
  EXPECT_GT(cut, 0U);
}

TEST(GoldenDirectory, ExampleModel) {
  PEREGRINE_REQUIRE_TEST_DATA("example-model");
  const std::filesystem::path folder = peregrine::testing::test_data() / "example-model";
  const auto tokenizer = Tokenizer::load(folder);
  const auto expected = core::parse_json(testing::read_any(folder / "expected.json"), "expected.json");
  std::size_t count = 0;
  for (const auto& row : expected.at("greedy").as_array()) {
    EXPECT_EQ(tokenizer->encode(string_of(row.at("prompt")), {}), ids_of(row.at("prompt_ids")));
    EXPECT_EQ(tokenizer->decode(ids_of(row.at("new_ids")), true), string_of(row.at("text")));
    ++count;
  }
  EXPECT_GT(count, 2U);
}

}  // namespace
}  // namespace peregrine::text
