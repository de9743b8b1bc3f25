// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace peregrine::testing {

/// The words of tiny_bert_tokenizer() behind its five special tokens; a word's id is 5 plus its place here.
inline constexpr auto kTinyWords = std::to_array<std::string_view>(
    {"a",  "b",     "c",      "the",     "cat", "dog",    "sat",   "ran", "on",   "mat", "##s", "what",
     "is", "paris", "france", "capital", "of",  "berlin", "query", ":",   "good", "bad", ".",   "?"});

/// A tokenizer.json in BERT's way with the ids [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4 and kTinyWords.
/// Where `truncation` is not 0, the file asks to cut texts to so many tokens.
inline std::string tiny_bert_tokenizer(int truncation = 0) {
  std::string vocab;
  std::string added;
  int id = 0;
  for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    added += std::string(id > 0 ? "," : "") + "{\"id\":" + std::to_string(id) + ",\"content\":\"" + token +
             "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
             "\"special\":true}";
    vocab += std::string(id > 0 ? "," : "") + "\"" + token + "\":" + std::to_string(id);
    ++id;
  }
  for (const std::string_view word : kTinyWords) {
    vocab += ",\"" + std::string(word) + "\":" + std::to_string(id++);
  }
  const std::string cut = truncation == 0
                              ? "null"
                              : "{\"direction\":\"Right\",\"max_length\":" + std::to_string(truncation) +
                                    ",\"strategy\":\"LongestFirst\",\"stride\":0}";
  const auto special = [](const char* token, int type) {
    return "{\"SpecialToken\":{\"id\":\"" + std::string(token) + "\",\"type_id\":" + std::to_string(type) +
           "}}";
  };
  const auto sequence = [](const char* name, int type) {
    return "{\"Sequence\":{\"id\":\"" + std::string(name) + "\",\"type_id\":" + std::to_string(type) + "}}";
  };
  const std::string single = special("[CLS]", 0) + "," + sequence("A", 0) + "," + special("[SEP]", 0);
  return "{\"version\":\"1.0\",\"truncation\":" + cut + ",\"padding\":null,\"added_tokens\":[" + added +
         "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
         "\"strip_accents\":null,\"lowercase\":false},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" +
         single + "],\"pair\":[" + single + "," + sequence("B", 1) + "," + special("[SEP]", 1) +
         "],\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},"
         "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
         "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
         "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
         "\"max_input_chars_per_word\":100,\"vocab\":{" +
         vocab + "}}}";
}

/// The id of one of kTinyWords, or of "[CLS]" and "[SEP]".
inline int tiny_id(std::string_view word) {
  if (word == "[CLS]") return 2;
  if (word == "[SEP]") return 3;
  for (std::size_t i = 0; i < kTinyWords.size(); ++i) {
    if (kTinyWords[i] == word) return static_cast<int>(i) + 5;
  }
  return 1;
}

inline void write_file(const std::filesystem::path& file, std::string_view text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

}  // namespace peregrine::testing
