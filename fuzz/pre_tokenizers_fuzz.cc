// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input chooses pre-tokenizers and a text, which is also cut by an added token now and then. Pieces must
// be whole characters in order, the same with offsets and without; where the pre-tokenizers only cut, no byte
// may be lost.
#include "core/json.h"
#include "text/pre_tokenizers.h"
#include "tokenizer_parts.h"

namespace {

using namespace peregrine;
using namespace peregrine::fuzz;

/// Whether all that was chosen leaves every character where it is.
struct Kept {
  bool all = true;
};

const char* behavior(Choices& choices, Kept& kept) {
  constexpr const char* kBehaviors[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
  const char* const chosen = kBehaviors[choices.number(0, std::size(kBehaviors) - 1)];
  if (chosen == kBehaviors[0]) kept.all = false;
  return chosen;
}

object metaspace(Choices& choices) {
  constexpr const char* kSchemes[] = {"first", "always", "never"};
  return {{"type", "Metaspace"},
          {"replacement", choices.character()},
          {"prepend_scheme", kSchemes[choices.number(0, 2)]},
          {"split", choices.coin()}};
}

object pre_tokenizer(Choices& choices, Kept& kept) {
  const auto changing = [&](object part) {
    kept.all = false;
    return part;
  };
  const auto plain = [&](const char* type) {
    return [type, changing] { return changing({{"type", type}}); };
  };
  return choices.chain(
      {plain("BertPreTokenizer"), plain("Whitespace"), plain("WhitespaceSplit"), plain("UnicodeScripts"),
       [&] {
         return changing(
             {{"type", "ByteLevel"}, {"add_prefix_space", choices.coin()}, {"use_regex", choices.coin()}});
       },
       [&] {
         return changing({{"type", "CharDelimiterSplit"}, {"delimiter", choices.character()}});
       },
       [&] { return changing(metaspace(choices)); },
       [&] {
         return object{{"type", "Digits"}, {"individual_digits", choices.coin()}};
       },
       [&] {
         return object{{"type", "FixedLength"}, {"length", choices.number(1, 9)}};
       },
       [&] {
         return object{{"type", "Punctuation"}, {"behavior", behavior(choices, kept)}};
       },
       [&] {
         return object{{"type", "Split"},
                       {"pattern", choices.pattern()},
                       {"behavior", behavior(choices, kept)},
                       {"invert", choices.coin()}};
       }},
      "pretokenizers");
}

/// The text in one section, or in two with an added token between.
text::PreTokenized sections(const std::string& text, std::size_t cut, bool aligned) {
  text::PreTokenized out(aligned);
  const text::AlignedText section(text, 0, aligned);
  if (cut > 0) out.append(section, 0, cut, text::PreTokenized::kText);
  if (cut > 0 && cut < text.size()) {
    const std::size_t end = cut + text::decode_at(text, cut).bytes;
    out.append(section, cut, end, 7);
    cut = end;
  }
  if (cut < text.size()) out.append(section, cut, text.size(), text::PreTokenized::kText);
  return out;
}

void check_pieces(const text::PreTokenized& text) {
  std::uint32_t at = 0;
  for (const auto& piece : text.pieces()) {
    require(at <= piece.begin && piece.begin <= piece.end && piece.end <= text.text().text().size());
    require(text::is_valid_utf8(text.text_of(piece)));
    at = piece.end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  Kept kept;
  const boost::json::value chosen = pre_tokenizer(choices, kept);
  const bool long_text = choices.number(0, 63) == 63;
  std::size_t cut = choices.number(0, 40);
  std::string text = choices.text(512);
  if (long_text) text = repeated(text, 4000);
  while (cut > 0 && (cut > text.size() || (cut < text.size() && text::is_continuation(text[cut])))) --cut;
  run([&] {
    const auto made = text::make_pre_tokenizer(core::JsonView(chosen, "input"));
    text::PreTokenized plain = sections(text, cut, false);
    text::PreTokenized aligned = sections(text, cut, true);
    made->pre_tokenize(plain);
    made->pre_tokenize(aligned);
    check_pieces(plain);
    check_sources(aligned.text(), text.size());
    if (made->needs_sources(false)) return;
    require(plain.text().text() == aligned.text().text());
    require(plain.pieces().size() == aligned.pieces().size());
    for (std::size_t i = 0; i < plain.pieces().size(); ++i)
      require(plain.text_of(plain.pieces()[i]) == aligned.text_of(aligned.pieces()[i]));
    if (!kept.all) return;
    std::string joined;
    for (const auto& piece : plain.pieces()) joined += plain.text_of(piece);
    require(joined == text);
  });
  return 0;
}
