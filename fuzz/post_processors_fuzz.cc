// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input chooses what goes around one text and two, how they are cut, and the texts. What comes out is
// compared with what the template says, written out.
#include <algorithm>
#include <optional>

#include "tokenizer_parts.h"

namespace {

using namespace peregrine;
using namespace peregrine::fuzz;

constexpr std::int32_t kSpecials = 4;  // "[", "]", "(" and ")", ids 40 to 43

/// A piece of a template: text 0 or 1, or a special token of one or two ids.
struct Piece {
  std::optional<std::size_t> text{};
  Ids ids{};
  std::int32_t type = 0;
};

struct Template {
  std::vector<Piece> single{};
  std::vector<Piece> pair{};
};

std::vector<Piece> pieces(Choices& choices, std::size_t texts) {
  std::vector<Piece> out;
  const auto add_specials = [&] {
    for (std::size_t count = choices.number(0, 2); count > 0; --count) {
      const auto token = static_cast<std::int32_t>(choices.number(0, kSpecials - 1));
      // ")" stands for two ids.
      out.push_back({.ids = token == 3 ? Ids{43, 42} : Ids{40 + token},
                     .type = static_cast<std::int32_t>(choices.number(0, 3))});
    }
  };
  const bool swapped = choices.coin();
  for (std::size_t i = 0; i < texts; ++i) {
    add_specials();
    out.push_back(
        {.text = texts == 2 && swapped ? 1 - i : i, .type = static_cast<std::int32_t>(choices.number(0, 3))});
  }
  add_specials();
  return out;
}

array written(const std::vector<Piece>& pieces) {
  array out;
  for (const Piece& piece : pieces) {
    const char* const name = piece.text              ? (*piece.text == 0 ? "A" : "B")
                             : piece.ids.size() == 2 ? ")"
                             : piece.ids[0] == 40    ? "["
                             : piece.ids[0] == 41    ? "]"
                                                     : "(";
    out.push_back(
        object{{piece.text ? "Sequence" : "SpecialToken", {{"id", name}, {"type_id", piece.type}}}});
  }
  return out;
}

object written(const Template& form) {
  const auto token = [](const char* name, array ids) {
    return object{{"id", name}, {"ids", std::move(ids)}, {"tokens", array{}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", written(form.single)},
          {"pair", written(form.pair)},
          {"special_tokens",
           {{"[", token("[", {40})},
            {"]", token("]", {41})},
            {"(", token("(", {42})},
            {")", token(")", {43, 42})}}}};
}

Piece special(std::int32_t id, std::int32_t type) { return {.ids = {id}, .type = type}; }

/// A post-processor that is a template, and the same as a template.
object template_like(Choices& choices, Template& form) {
  const Piece first{.text = 0};
  switch (choices.number(0, 2)) {
    case 0:
      form = {pieces(choices, 1), pieces(choices, 2)};
      return written(form);
    case 1:
      form = {{special(40, 0), first, special(41, 0)},
              {special(40, 0), first, special(41, 0), {.text = 1, .type = 1}, special(41, 1)}};
      return {{"type", "BertProcessing"}, {"cls", array{"[", 40}}, {"sep", array{"]", 41}}};
    default:
      form = {{special(40, 0), first, special(41, 0)},
              {special(40, 0), first, special(41, 0), special(41, 0), {.text = 1}, special(41, 0)}};
      return {{"type", "RobertaProcessing"},
              {"cls", array{"[", 40}},
              {"sep", array{"]", 41}},
              {"trim_offsets", choices.coin()},
              {"add_prefix_space", choices.coin()}};
  }
}

Tokenizer::PairEncoding composed(const std::vector<Piece>& pieces, const std::vector<Ids>& texts,
                                 bool add_special) {
  Tokenizer::PairEncoding out;
  for (const Piece& piece : pieces) {
    if (!piece.text && !add_special) continue;
    const Ids& ids = piece.text ? texts[*piece.text] : piece.ids;
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.token_types.insert(out.token_types.end(), ids.size(), piece.type);
  }
  return out;
}

std::size_t added_by(const std::vector<Piece>& pieces) {
  std::size_t out = 0;
  for (const Piece& piece : pieces) out += piece.ids.size();
  return out;
}

struct Cutting {
  const char* strategy = "LongestFirst";
  bool left = false;
};

Ids cut(const Ids& ids, std::size_t count, bool left) {
  const auto kept = static_cast<std::ptrdiff_t>(std::min(count, ids.size()));
  return left ? Ids(ids.end() - kept, ids.end()) : Ids(ids.begin(), ids.begin() + kept);
}

/// Cuts two texts token by token; false where the strategy does not let that be done.
bool cut_pair(std::vector<Ids>& texts, std::size_t room, const Cutting& cutting) {
  std::size_t first = texts[0].size();
  std::size_t second = texts[1].size();
  const std::string_view strategy = cutting.strategy;
  const bool fits = first + second <= room;
  while (first + second > room) {
    if (room == 0) {
      first = second = 0;
    } else if (strategy == "LongestFirst") {
      const bool second_began_longer = texts[0].size() <= texts[1].size();
      (first > second || (first == second && second_began_longer) ? first : second) -= 1;
    } else {
      std::size_t& one = strategy == "OnlyFirst" ? first : second;
      if (one == 0) return false;
      one -= 1;
    }
  }
  if (!fits && room > 0 && strategy != "LongestFirst" && (strategy == "OnlyFirst" ? first : second) == 0)
    return false;
  texts = {cut(texts[0], first, cutting.left), cut(texts[1], second, cutting.left)};
  return true;
}

void check(const Tokenizer& tokenizer, const Template& form, const Cutting& cutting, Choices& choices) {
  const std::vector<std::string> texts = {choices.bytes(200), choices.bytes(200)};
  std::vector<Ids> ids;
  for (const std::string& text : texts) ids.push_back(check_encoding(tokenizer, text));
  for (const bool add_special : {false, true}) {
    for (const bool limited : {false, true}) {
      Tokenizer::EncodeOptions options{.add_special_tokens = add_special};
      if (limited) options.max_tokens = choices.number(0, 40);
      const auto room = [&](const std::vector<Piece>& pieces) {
        const std::size_t added = add_special ? added_by(pieces) : 0;
        return *options.max_tokens - std::min(added, *options.max_tokens);
      };
      std::vector<Ids> one = {ids[0]};
      if (limited) one[0] = cut(one[0], room(form.single), cutting.left);
      const auto single = tokenizer.encode_with_types(texts[0], options);
      const auto expected = composed(form.single, one, add_special);
      require(single.ids == expected.ids);
      if (add_special) require(single.token_types == expected.token_types);

      std::vector<Ids> two = ids;
      const bool possible = !limited || cut_pair(two, room(form.pair), cutting);
      try {
        const auto pair = tokenizer.encode_pair(texts[0], texts[1], options);
        require(possible);
        const auto both = composed(form.pair, two, add_special);
        require(pair.ids == both.ids);
        require(pair.token_types == both.token_types);
      } catch (const core::Error& error) {
        require(!possible && error.kind() == core::ErrorKind::kInvalidArgument);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  array added;
  for (std::int32_t i = 0; i < kSpecials; ++i)
    added.push_back(
        object{{"id", 40 + i}, {"content", std::string("<s") + "0123"[i] + ">"}, {"special", true}});
  Template form;
  object processor = template_like(choices, form);
  if (choices.coin()) {
    const object byte_level{{"type", "ByteLevel"}, {"trim_offsets", choices.coin()}};
    array parts{byte_level, std::move(processor)};
    if (choices.coin()) parts.push_back(byte_level);
    processor = {{"type", "Sequence"}, {"processors", std::move(parts)}};
  }
  constexpr const char* kStrategies[] = {"LongestFirst", "OnlyFirst", "OnlySecond"};
  const Cutting cutting{kStrategies[choices.number(0, 2)], choices.coin()};
  object file{{"model", small_model()},
              {"added_tokens", std::move(added)},
              {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", choices.coin()}}},
              {"decoder", {{"type", "ByteLevel"}}},
              {"post_processor", std::move(processor)},
              {"truncation",
               {{"direction", cutting.left ? "Left" : "Right"},
                {"max_length", 8},
                {"strategy", cutting.strategy},
                {"stride", 0}}}};
  const auto tokenizer = make_tokenizer(std::move(file));
  require(tokenizer != nullptr);
  check(*tokenizer, form, cutting, choices);
  return 0;
}
