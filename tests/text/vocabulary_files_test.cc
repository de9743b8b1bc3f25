// SPDX-License-Identifier: Apache-2.0
// Model directories without tokenizer.json: the other vocabularies must give what the tokenizer.json of the
// same model gives.
#include "text/vocabulary_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_model.pb.h>

#include <fstream>
#include <random>

#include "core/error.h"
#include "core/json.h"
#include "golden_data.h"
#include "support/test_data.h"
#include "text/charsmap.h"
#include "text/tokenizer.h"

namespace peregrine::text {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Directory {
 public:
  void write(const char* name, std::string_view text) const {
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
  }
  void copy(const std::string& family, const char* name) const {
    std::filesystem::copy_file(testing::family_folder(family) / name, folder_.path() / name);
  }
  std::unique_ptr<const Tokenizer> load() const { return Tokenizer::load(folder_.path()); }
  std::string load_error() const {
    try {
      load();
    } catch (const core::Error& error) {
      return std::string(core::to_string(error.kind())) + " " + error.what();
    }
    return "no error";
  }

 private:
  peregrine::testing::TemporaryDirectory folder_;
};

boost::json::value golden_file(const std::string& family) {
  return core::parse_json(testing::tokenizer_text(family), family);
}

/// Every case of a family; returns how many there were. A text whose ids `differs` names is passed over.
std::size_t check_cases(const Tokenizer& tokenizer, const std::string& family, bool with_specials = true) {
  std::size_t count = 0;
  for (const auto& row : testing::read_lines(testing::family_folder(family) / "cases.jsonl.gz")) {
    if (!with_specials && row.at("cat").as_string() == "special") continue;
    const std::string text = testing::string_of(row.at("text"));
    const Tokenizer::EncodeOptions options = {.add_special_tokens = row.at("add_special_tokens").as_bool(),
                                              .parse_special = row.at("parse_special").as_bool()};
    const auto ids = testing::ids_of(row.at("ids"));
    EXPECT_EQ(tokenizer.encode(text, options), ids)
        << family << " " << row.at("id") << " " << core::quoted(text) << " special "
        << options.add_special_tokens << options.parse_special;
    EXPECT_EQ(tokenizer.decode(ids, false), testing::string_of(row.at("decoded"))) << row.at("id");
    ++count;
  }
  return count;
}

TEST(VocabularyFiles, ByteLevel) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/opt");
  const Directory directory;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) directory.copy("opt", name);
  EXPECT_GT(check_cases(*directory.load(), "opt"), 400U);
}

TEST(VocabularyFiles, RobertaFromTheSameVocabulary) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/roberta-base");
  const Directory directory;
  for (const char* name : {"vocab.json", "merges.txt"}) directory.copy("opt", name);
  directory.write("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer", "bos_token": "<s>",
      "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})");
  EXPECT_GT(check_cases(*directory.load(), "roberta-base"), 400U);
}

TEST(VocabularyFiles, Bert) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/bert-base-uncased");
  std::vector<std::string> lines;
  const boost::json::value file = golden_file("bert-base-uncased");
  for (const auto& member : file.at("model").at("vocab").as_object()) {
    const auto id = static_cast<std::size_t>(member.value().as_int64());
    lines.resize(std::max(lines.size(), id + 1));
    lines[id] = member.key();
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  const Directory directory;
  directory.write("vocab.txt", text);
  EXPECT_GT(check_cases(*directory.load(), "bert-base-uncased"), 400U) << "no configuration";
  directory.write("tokenizer_config.json",
                  R"({"do_lower_case": false, "tokenizer_class": "BertTokenizerFast"})");
  EXPECT_NE(directory.load()->encode("Hello", {}), directory.load()->encode("hello", {}));
}

/// A .model file of a vocabulary's tokens and scores.
std::string model_file(const std::vector<std::pair<std::string, float>>& pieces,
                       sentencepiece::TrainerSpec::ModelType type, const std::string& charsmap, bool bytes) {
  sentencepiece::Model model;
  for (const auto& [text, score] : pieces) {
    auto* piece = model.add_pieces();
    piece->set_piece(text);
    piece->set_score(score);
    if (text == "<unk>") piece->set_type(sentencepiece::Model::Piece::UNKNOWN);
    if (text == "<s>" || text == "</s>" || text == "<pad>")
      piece->set_type(sentencepiece::Model::Piece::CONTROL);
    if (text.starts_with("<0x")) piece->set_type(sentencepiece::Model::Piece::BYTE);
  }
  model.mutable_trainer_spec()->set_model_type(type);
  model.mutable_trainer_spec()->set_byte_fallback(bytes);
  if (!charsmap.empty()) model.mutable_normalizer_spec()->set_precompiled_charsmap(charsmap);
  return model.SerializeAsString();
}

TEST(VocabularyFiles, SentencePieceUnigram) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/t5-small");
  const boost::json::value file = golden_file("t5-small");
  std::vector<std::pair<std::string, float>> pieces;
  for (const auto& item : file.at("model").at("vocab").as_array()) {
    const std::string text = testing::string_of(item.at(0));
    if (!text.starts_with("<extra_id_")) pieces.emplace_back(text, item.at(1).to_number<float>());
  }
  const std::string charsmap =
      decode_base64(testing::string_of(file.at("normalizer").at("precompiled_charsmap")), "t5");
  const Directory directory;
  directory.write("spiece.model", model_file(pieces, sentencepiece::TrainerSpec::UNIGRAM, charsmap, false));
  directory.copy("t5-small", "tokenizer_config.json");
  const auto tokenizer = directory.load();
  const auto reference = testing::golden_tokenizer("t5-small");
  ASSERT_EQ(tokenizer->vocab_size(), reference->vocab_size());
  for (std::int32_t id = 0; id < reference->vocab_size(); ++id)
    ASSERT_EQ(tokenizer->token(id), reference->token(id));
  for (const std::string text :
       {"Hello, world! <extra_id_0> of text", "caf\u00E9 \u00BD  two  spaces ", "", "a</s>b"}) {
    EXPECT_EQ(tokenizer->encode(text, {}), reference->encode(text, {})) << text;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {}), true),
              reference->decode(reference->encode(text, {}), true));
  }
}

TEST(VocabularyFiles, SentencePieceBpe) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/llama-2");
  const boost::json::value file = golden_file("llama-2");
  const auto& model = file.at("model").as_object();
  std::vector<std::pair<std::string, float>> pieces(model.at("vocab").as_object().size());
  for (const auto& member : model.at("vocab").as_object())
    pieces.at(static_cast<std::size_t>(member.value().as_int64())).first = member.key();
  // Merges are in the order of the scores of what they make.
  float score = 0;
  for (const auto& merge : model.at("merges").as_array()) {
    std::string text = testing::string_of(merge);
    text.erase(text.find(' '), 1);
    const auto id = static_cast<std::size_t>(model.at("vocab").at(text).as_int64());
    if (pieces[id].second == 0) pieces[id].second = --score;
  }
  const Directory directory;
  directory.write("tokenizer.model", model_file(pieces, sentencepiece::TrainerSpec::BPE, "", true));
  directory.copy("llama-2", "tokenizer_config.json");
  EXPECT_GT(check_cases(*directory.load(), "llama-2"), 400U);
}

TEST(VocabularyFiles, XlmRobertaHasFairseqsNumbers) {
  const Directory directory;
  const std::vector<std::pair<std::string, float>> pieces = {{"<unk>", 0},   {"<s>", 0},      {"</s>", 0},
                                                             {"\u2581", -2}, {"\u2581a", -1}, {"b", -3}};
  directory.write("sentencepiece.bpe.model",
                  model_file(pieces, sentencepiece::TrainerSpec::UNIGRAM, "", false));
  directory.write("tokenizer_config.json", R"({"tokenizer_class": "XLMRobertaTokenizer"})");
  const auto tokenizer = directory.load();
  EXPECT_THAT(tokenizer->encode("ab  x<mask>", {}), ElementsAre(0, 5, 6, 4, 3, 7, 2));
  EXPECT_EQ(tokenizer->token_id("<pad>"), 1);
  EXPECT_TRUE(tokenizer->is_special(7));
}

TEST(VocabularyFiles, WrongOnesAreNamed) {
  const Directory directory;
  EXPECT_THAT(directory.load_error(),
              AllOf(HasSubstr("not_found"), HasSubstr("tokenizer.json"), HasSubstr("vocab.txt")));
  directory.write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n");
  EXPECT_THAT(directory.load()->encode("a b", {}), ElementsAre(1, 3, 0, 2));
  directory.write("tokenizer_config.json", R"({"tokenizer_class": "AlbertTokenizer"})");
  EXPECT_THAT(directory.load_error(),
              AllOf(HasSubstr("unsupported"), HasSubstr("AlbertTokenizer"), HasSubstr("BertTokenizer")));
  directory.write("tokenizer_config.json", "{}");
  directory.write("vocab.txt", "a\n\xFF\n");
  EXPECT_THAT(directory.load_error(), AllOf(HasSubstr("vocab.txt"), HasSubstr("UTF-8")));
  directory.write("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  directory.write("merges.txt", "#version: 0.2\na b\n");
  EXPECT_THAT(directory.load()->encode("ab", {}), ElementsAre(2));
  directory.write("merges.txt", "a x\n");
  EXPECT_THAT(directory.load_error(), AllOf(HasSubstr("vocab.json"), HasSubstr("'x'")));
  directory.write("vocab.json", "[]");
  EXPECT_THAT(directory.load_error(), HasSubstr("vocab.json"));
  directory.write("spiece.model", "no protobuf");
  EXPECT_THAT(directory.load_error(), AllOf(HasSubstr("spiece.model"), HasSubstr("SentencePiece")));
  using Spec = sentencepiece::TrainerSpec;
  directory.write("spiece.model", model_file({{"<unk>", 0}, {"a\xFF", 0}}, Spec::UNIGRAM, "", false));
  EXPECT_THAT(directory.load_error(), HasSubstr("piece 1"));
  directory.write("spiece.model", model_file({{"<unk>", 0}, {"a", 0}}, Spec::WORD, "", false));
  EXPECT_THAT(directory.load_error(), AllOf(HasSubstr("unsupported"), HasSubstr("3")));
  directory.write("spiece.model", model_file({{"<unk>", 0}, {"a", 0}}, Spec::UNIGRAM, "junk", false));
  EXPECT_THAT(directory.load_error(), HasSubstr("charsmap"));
  directory.write("spiece.model", model_file({{"<unk>", 0}, {"a", 0}, {"a", 0}}, Spec::BPE, "", false));
  EXPECT_THAT(directory.load_error(), HasSubstr("twice"));
}

TEST(VocabularyFiles, DamagedSentencePieceNeverCrashes) {
  const std::string good =
      model_file({{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}, {"\u2581", -1}, {"a", -2}, {"\u2581a", -3}},
                 sentencepiece::TrainerSpec::BPE, "", true);
  const Directory directory;
  std::mt19937 random(3);
  std::size_t loaded = 0;
  for (int round = 0; round < 400; ++round) {
    std::string damaged = good.substr(0, round % 4 == 0 ? random() % good.size() : good.size());
    for (int i = 0; i < 2 && !damaged.empty(); ++i)
      damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    directory.write("tokenizer.model", damaged);
    try {
      const auto tokenizer = directory.load();
      tokenizer->decode(tokenizer->encode("a b", {}), false);
      ++loaded;
    } catch (const core::Error& error) {
      EXPECT_NE(error.kind(), core::ErrorKind::kInternal) << error.what();
    }
  }
  EXPECT_GT(loaded, 20U);
}

}  // namespace
}  // namespace peregrine::text
