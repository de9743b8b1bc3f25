// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/aligned_text.h"
#include "text/normalizers.h"

namespace peregrine::text {

/// A token that is found in the text itself, before anything is cut.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  ///< Only where no word character touches it.
  bool lstrip = false;       ///< Takes the white space before it along.
  bool rstrip = false;       ///< Takes the white space behind it along.
  bool normalized = true;    ///< Is looked for in normalized text, in its normalized form.
  bool special = false;      ///< May be skipped in decoding, and left unparsed in untrusted text.
};

/// Reads the flags and the content of an added token; `id` is given or a member.
AddedToken parse_added_token(const core::JsonView& json, std::int64_t id);

/// The added tokens of a tokenizer, looked for leftmost first and longest first. Immutable after
/// construction.
class AddedTokens {
 public:
  /// Where in the pipeline a token is looked for.
  enum class Stage { kRaw, kNormalized };

  /// A stretch of text: an added token, or what lies between.
  struct Section {
    std::uint32_t begin;
    std::uint32_t end;
    std::optional<std::int32_t> token;
  };

  /// No token may be longer (the search looks that far ahead at every byte).
  static constexpr std::size_t kMaxContentBytes = 1024;

  AddedTokens() = default;
  /// `normalizer` may be null. Tokens with empty content are never found.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /// The form in which token `index` of tokens() is looked for, and decoded.
  std::string_view form(std::size_t index) const { return forms_[index]; }

  /// Whether any token is looked for in this stage.
  bool has(Stage stage) const { return !matcher(stage, true).empty(); }

  /// The sections of valid UTF-8 `text`, in order. Without `parse_special` special tokens are not looked for.
  std::vector<Section> split(std::string_view text, Stage stage, bool parse_special) const;

 private:
  /// A set of forms, sorted by their bytes.
  class Matcher {
   public:
    void add(std::string_view form, std::uint32_t index) { forms_.push_back({std::string(form), index}); }
    void finish();
    bool empty() const { return forms_.empty(); }
    /// The longest form that `text` starts with: its index and its size.
    struct Hit {
      std::uint32_t index;
      std::size_t bytes;
    };
    std::optional<Hit> longest_prefix(std::string_view text) const;

   private:
    struct Form {
      std::string text;
      std::uint32_t index;
    };
    std::vector<Form> forms_;
    std::array<bool, 256> first_bytes_{};
  };

  const Matcher& matcher(Stage stage, bool parse_special) const {
    return matchers_[stage == Stage::kNormalized ? 1 : 0][parse_special ? 1 : 0];
  }

  std::vector<AddedToken> tokens_;
  std::vector<std::string> forms_;  ///< Like tokens_.
  std::array<std::array<Matcher, 2>, 2> matchers_;
};

}  // namespace peregrine::text
