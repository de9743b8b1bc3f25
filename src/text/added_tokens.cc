// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "text/component.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

/// Whether the characters next to [begin, end) are no word characters.
bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  if (begin > 0 && is_word(decode_at(text, previous_character(text, begin)).value)) return false;
  return end == text.size() || !is_word(decode_at(text, end).value);
}

/// Where the white space before `begin` starts, not before `floor`.
std::size_t skip_space_back(std::string_view text, std::size_t begin, std::size_t floor) {
  while (begin > floor) {
    const std::size_t previous = previous_character(text, begin);
    if (!is_white_space(decode_at(text, previous).value)) break;
    begin = previous;
  }
  return begin;
}

/// Finds where white space ends. Remembers the last run, so that asking at each of its characters stays
/// linear.
class SpaceSkipper {
 public:
  explicit SpaceSkipper(std::string_view text) : text_(text) {}

  std::size_t skip(std::size_t at) {
    if (at >= begin_ && at <= end_) return end_;
    begin_ = end_ = at;
    while (end_ < text_.size()) {
      const CodePoint c = decode_at(text_, end_);
      if (!is_white_space(c.value)) break;
      end_ += c.bytes;
    }
    return end_;
  }

 private:
  std::string_view text_;
  std::size_t begin_ = 1;  // of the last run; empty at first
  std::size_t end_ = 0;
};

}  // namespace

AddedToken parse_added_token(const core::JsonView& json, std::int64_t id) {
  AddedToken token;
  token.id = static_cast<std::int32_t>(id);
  token.content = json.at("content").as_string();
  if (token.content.size() > AddedTokens::kMaxContentBytes) {
    core::fail(core::ErrorKind::kInvalidArgument, "{}: an added token of {} bytes, at most {} are allowed",
               json.where(), token.content.size(), AddedTokens::kMaxContentBytes);
  }
  token.single_word = optional_bool(json, "single_word", false);
  token.lstrip = optional_bool(json, "lstrip", false);
  token.rstrip = optional_bool(json, "rstrip", false);
  token.special = optional_bool(json, "special", false);
  token.normalized = optional_bool(json, "normalized", !token.special);
  return token;
}

void AddedTokens::Matcher::finish() {
  std::stable_sort(forms_.begin(), forms_.end(),
                   [](const Form& a, const Form& b) { return a.text < b.text; });
  // Two tokens can have one normalized form; the first of the file is the one that is found.
  forms_.erase(std::unique(forms_.begin(), forms_.end(),
                           [](const Form& a, const Form& b) { return a.text == b.text; }),
               forms_.end());
  for (const Form& form : forms_) first_bytes_[static_cast<unsigned char>(form.text.front())] = true;
}

std::optional<AddedTokens::Matcher::Hit> AddedTokens::Matcher::longest_prefix(std::string_view text) const {
  if (text.empty() || !first_bytes_[static_cast<unsigned char>(text.front())]) return std::nullopt;
  // [low, high) are the forms that agree with the text so far; each byte narrows them. The shortest comes
  // first.
  auto low = forms_.begin();
  auto high = forms_.end();
  std::optional<Hit> best;
  for (std::size_t depth = 0; depth < text.size() && low != high; ++depth) {
    const auto byte = static_cast<unsigned char>(text[depth]);
    const auto byte_of = [depth](const Form& form) {
      return form.text.size() > depth ? static_cast<int>(static_cast<unsigned char>(form.text[depth])) : -1;
    };
    low = std::partition_point(low, high, [&](const Form& form) { return byte_of(form) < byte; });
    high = std::partition_point(low, high, [&](const Form& form) { return byte_of(form) == byte; });
    if (low != high && low->text.size() == depth + 1) best = Hit{low->index, depth + 1};
  }
  return best;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer)
    : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    std::string form = token.content;
    if (token.normalized && normalizer != nullptr) {
      AlignedText text(token.content, 0, false);
      normalizer->normalize(text);
      form = text.text();
      if (form.size() > kMaxContentBytes) {
        core::fail(core::ErrorKind::kInvalidArgument,
                   "added token {} has {} bytes once normalized, at most {} are allowed",
                   core::quoted(token.content), form.size(), kMaxContentBytes);
      }
    }
    for (const bool parse_special : {false, true}) {
      if (form.empty() || (token.special && !parse_special)) continue;
      matchers_[token.normalized ? 1 : 0][parse_special ? 1 : 0].add(form, static_cast<std::uint32_t>(i));
    }
    forms_.push_back(std::move(form));
  }
  for (auto& stage : matchers_) {
    for (Matcher& matcher : stage) matcher.finish();
  }
}

std::vector<AddedTokens::Section> AddedTokens::split(std::string_view text, Stage stage,
                                                     bool parse_special) const {
  const Matcher& forms = matcher(stage, parse_special);
  std::vector<Section> sections;
  const auto add = [&](std::size_t begin, std::size_t end, std::optional<std::int32_t> token) {
    sections.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), token});
  };
  SpaceSkipper spaces(text);
  std::size_t done = 0;  // all before is in sections
  for (std::size_t at = 0; at < text.size() && !forms.empty();) {
    const auto hit = forms.longest_prefix(text.substr(at));
    if (!hit) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + hit->bytes;
    at = end;
    const AddedToken& token = tokens_[hit->index];
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    // White space that the token before took along is not there any more; a token that lay in it is not
    // either.
    if (token.lstrip && end < done) continue;
    if (token.lstrip) begin = std::max(skip_space_back(text, begin, done), done);
    if (token.rstrip) end = spaces.skip(end);
    if (begin > done) add(done, begin, std::nullopt);
    add(begin, end, token.id);
    done = end;
  }
  if (done < text.size()) add(done, text.size(), std::nullopt);
  return sections;
}

}  // namespace peregrine::text
