// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input chooses added tokens with their flags, a normalizer and a text that is made of them and of
// others.
#include <algorithm>
#include <set>

#include "tokenizer_parts.h"

namespace {

using namespace peregrine;
using namespace peregrine::fuzz;

constexpr std::int32_t kFirstAdded = 40;

/// A name such as tokens have: some that are parts of others, some with blanks, some any.
std::string name(Choices& choices) {
  constexpr const char* kNames[] = {"<s>", "<s",   "s>", "</s>",   "<mask>",       "  ",    " a",
                                    "ab",  "abab", "AB", "\u00C9", "<|im_start|>", "<|im_", "\u1E9E"};
  return choices.coin() ? std::string(kNames[choices.number(0, std::size(kNames) - 1)]) : choices.text(12);
}

struct Added {
  array tokens{};
  std::vector<std::string> names{};
  std::set<std::int32_t> special{};
};

Added added_tokens(Choices& choices) {
  Added out;
  for (std::size_t count = choices.number(0, 12); count > 0; --count) {
    const std::string content = name(choices);
    if (content.empty() || std::find(out.names.begin(), out.names.end(), content) != out.names.end())
      continue;
    const auto id = kFirstAdded + static_cast<std::int32_t>(out.names.size());
    const bool special = choices.coin();
    if (special) out.special.insert(id);
    out.names.push_back(content);
    out.tokens.push_back(object{{"id", id},
                                {"content", content},
                                {"special", special},
                                {"single_word", choices.coin()},
                                {"lstrip", choices.coin()},
                                {"rstrip", choices.coin()},
                                {"normalized", choices.coin()}});
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  Added added = added_tokens(choices);
  constexpr const char* kNormalizers[] = {"Lowercase", "NFKC", "NFD", "StripAccents", "Nmt"};
  object file{{"model", small_model()},
              {"added_tokens", std::move(added.tokens)},
              {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", choices.coin()}}},
              {"decoder", {{"type", "ByteLevel"}}}};
  if (choices.coin()) file["normalizer"] = object{{"type", kNormalizers[choices.number(0, 4)]}};
  const auto tokenizer = make_tokenizer(std::move(file));
  if (tokenizer == nullptr) return 0;
  std::string text;
  for (std::size_t count = choices.number(0, 24); count > 0 && !choices.empty(); --count) {
    const bool known = !added.names.empty() && choices.coin();
    text += known ? added.names[choices.number(0, added.names.size() - 1)] : choices.word();
  }
  text += choices.bytes(64);
  if (choices.number(0, 31) == 31) text = repeated(text, 4000);
  run([&] {
    const Ids ids = check_encoding(*tokenizer, text);
    check_decoding(*tokenizer, ids, true);
    const Ids untrusted = tokenizer->encode(text, {.add_special_tokens = false, .parse_special = false});
    for (const std::int32_t id : untrusted) require(!added.special.contains(id));
    for (const std::int32_t id : ids) require(tokenizer->is_special(id) == added.special.contains(id));
  });
  return 0;
}
