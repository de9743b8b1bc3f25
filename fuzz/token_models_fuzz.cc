// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input chooses a model (BPE, Unigram, WordPiece, WordLevel), its vocabulary and a text. Plain BPE is
// compared with the definition of it, Unigram with a search of all segmentations.
#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "tokenizer_parts.h"

namespace {

using namespace peregrine;
using namespace peregrine::fuzz;

constexpr const char* kLetters[] = {"a", "b", "c", " ", "\u2581", "\u00E9", "\U0001F600"};

std::string letter(Choices& choices) { return kLetters[choices.number(0, std::size(kLetters) - 1)]; }

std::string letters(Choices& choices, std::size_t most) {
  std::string out;
  for (std::size_t count = choices.number(1, most); count > 0; --count) out += letter(choices);
  return out;
}

/// Different tokens, in order of their ids.
class TokenTable {
 public:
  void add(const std::string& token) {
    if (ids_.emplace(token, tokens_.size()).second) tokens_.push_back(token);
  }
  bool has(const std::string& token) const { return ids_.contains(token); }
  const std::vector<std::string>& tokens() const { return tokens_; }
  object vocab() const {
    object out;
    for (std::size_t id = 0; id < tokens_.size(); ++id) out[tokens_[id]] = id;
    return out;
  }

 private:
  std::vector<std::string> tokens_;
  std::map<std::string, std::size_t> ids_;
};

void add_byte_tokens(TokenTable& table) {
  for (int byte = 0; byte < 256; ++byte) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    table.add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
  }
}

using Merges = std::vector<std::pair<std::string, std::string>>;

/// What BPE is: of all neighbours that may merge, those of the lowest rank merge, leftmost first.
std::vector<std::string> merged(const std::string& word, const Merges& merges) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < word.size(); i += text::decode_at(word, i).bytes)
    parts.push_back(word.substr(i, text::decode_at(word, i).bytes));
  while (true) {
    std::size_t best = merges.size();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto rank = static_cast<std::size_t>(
          std::find(merges.begin(), merges.end(), std::pair(parts[i], parts[i + 1])) - merges.begin());
      if (rank < best) {
        best = rank;
        where = i;
      }
    }
    if (best == merges.size()) return parts;
    parts[where] += parts[where + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

void fuzz_bpe(Choices& choices) {
  TokenTable table;
  for (const char* c : kLetters) table.add(c);
  Merges merges;
  std::set<std::pair<std::string, std::string>> seen;
  array written;
  for (std::size_t count = choices.number(0, 24); count > 0; --count) {
    const auto& tokens = table.tokens();
    const std::string first = tokens[choices.number(0, tokens.size() - 1)];
    const std::string second = tokens[choices.number(0, tokens.size() - 1)];
    if (first.size() + second.size() > 64 || !seen.emplace(first, second).second) continue;
    table.add(first + second);
    merges.emplace_back(first, second);
    written.push_back(array{first, second});
  }
  object model{{"type", "BPE"}, {"merges", std::move(written)}};
  const bool plain = choices.coin();
  if (!plain) {
    if (choices.coin()) table.add("<unk>");
    if (choices.number(0, 3) == 3) add_byte_tokens(table);
    model["unk_token"] = "<unk>";
    model["fuse_unk"] = choices.coin();
    model["byte_fallback"] = choices.coin();
    model["ignore_merges"] = choices.coin();
    if (choices.coin()) model["end_of_word_suffix"] = choices.word();
    if (choices.coin()) model["continuing_subword_prefix"] = choices.word();
  }
  model["vocab"] = table.vocab();
  const auto tokenizer = make_tokenizer({{"model", std::move(model)}, {"decoder", {{"type", "Fuse"}}}});
  if (tokenizer == nullptr) return;
  const std::string text = plain ? letters(choices, 60) : choices.text(300);
  const Ids ids = check_encoding(*tokenizer, text);
  check_decoding(*tokenizer, ids, true);
  if (choices.number(0, 63) == 63) check_encoding(*tokenizer, repeated(text, 4000));
  if (!plain) return;
  Ids expected;
  for (const std::string& part : merged(text, merges)) expected.push_back(*tokenizer->token_id(part));
  require(ids == expected);
}

/// The score of the best segmentation of `text`; nothing where there is none.
std::optional<double> best_score(const std::string& text, const std::map<std::string, double>& scores) {
  std::vector<std::optional<double>> best(text.size() + 1);
  best[0] = 0.0;
  for (std::size_t end = 1; end <= text.size(); ++end) {
    for (std::size_t begin = 0; begin < end; ++begin) {
      const auto score = scores.find(text.substr(begin, end - begin));
      if (!best[begin] || score == scores.end()) continue;
      const double sum = *best[begin] + score->second;
      if (!best[end] || sum > *best[end]) best[end] = sum;
    }
  }
  return best[text.size()];
}

void fuzz_unigram(Choices& choices) {
  TokenTable table;
  table.add("<unk>");
  const bool complete = choices.coin();
  if (complete) {
    for (const char* c : kLetters) table.add(c);
  } else if (choices.number(0, 3) == 3) {
    add_byte_tokens(table);
  }
  for (std::size_t count = choices.number(1, 24); count > 0; --count)
    table.add(complete || choices.coin() ? letters(choices, 6) : choices.word());
  std::map<std::string, double> scores;
  array vocab;
  for (const std::string& token : table.tokens()) {
    const double score = choices.score();
    if (token != "<unk>") scores.emplace(token, score);
    vocab.push_back(array{token, score});
  }
  object model{{"type", "Unigram"}, {"unk_id", 0}, {"vocab", std::move(vocab)}};
  if (!complete) model["byte_fallback"] = choices.coin();
  const auto tokenizer = make_tokenizer({{"model", std::move(model)}, {"decoder", {{"type", "Fuse"}}}});
  if (tokenizer == nullptr) return;
  const std::string text = complete ? letters(choices, 60) : choices.text(300);
  const Ids ids = check_encoding(*tokenizer, text);
  check_decoding(*tokenizer, ids, true);
  if (choices.number(0, 63) == 63) check_encoding(*tokenizer, repeated(text, 4000));
  if (!complete) return;
  double sum = 0;
  std::string joined;
  for (const std::int32_t id : ids) {
    const std::string token(*tokenizer->token(id));
    require(scores.contains(token));
    sum += scores.at(token);
    joined += token;
  }
  require(joined == text);
  require(sum >= *best_score(text, scores) - 1e-6);
}

void fuzz_words(Choices& choices) {
  TokenTable table;
  const bool pieces = choices.coin();
  const std::string prefix = choices.coin() ? "##" : choices.word();
  if (choices.number(0, 7) != 0) table.add("[UNK]");
  for (std::size_t count = choices.number(0, 30); count > 0; --count)
    table.add((pieces && choices.coin() ? prefix : "") +
              (choices.coin() ? letters(choices, 5) : choices.word()));
  object model{
      {"type", pieces ? "WordPiece" : "WordLevel"}, {"vocab", table.vocab()}, {"unk_token", "[UNK]"}};
  if (pieces) {
    model["continuing_subword_prefix"] = prefix;
    model["max_input_chars_per_word"] = choices.number(1, 200);
  }
  const auto tokenizer = make_tokenizer({{"model", std::move(model)},
                                         {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
                                         {"decoder", {{"type", "WordPiece"}, {"prefix", prefix}}}});
  if (tokenizer == nullptr) return;
  const std::string text = choices.coin() ? letters(choices, 100) : choices.text(300);
  check_decoding(*tokenizer, check_encoding(*tokenizer, text), true);
  if (choices.number(0, 63) == 63) check_encoding(*tokenizer, repeated(text, 4000));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  const auto kind = choices.number(0, 2);
  run([&] {
    if (kind == 0) return fuzz_bpe(choices);
    if (kind == 1) return fuzz_unigram(choices);
    fuzz_words(choices);
  });
  return 0;
}
