// SPDX-License-Identifier: Apache-2.0
#include "text/decoders.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "text/byte_level.h"
#include "text/component.h"
#include "text/metaspace.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

/// A step that has to see tokens whole.
class WholeTokenSink : public TokenSink {
 public:
  explicit WholeTokenSink(TokenSink& next) : next_(next) {}
  void part(std::string_view text) final { token_ += text; }
  void end_token() final {
    token(token_);
    token_.clear();
  }

 protected:
  virtual void token(std::string_view text) = 0;
  TokenSink& next() { return next_; }

 private:
  TokenSink& next_;
  std::string token_;
};

/// The bytes that the characters of a token stand for; a token that has other characters stands for itself.
std::string byte_level_bytes(std::string_view token) {
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const CodePoint c = decode_at(token, i);
    const auto byte = byte_of_character(c.value);
    if (!byte) return std::string(token);
    bytes.push_back(static_cast<char>(*byte));
    i += c.bytes;
  }
  return bytes;
}

/// The byte that a token like <0x0A> stands for.
std::optional<char> parse_byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

/// All tokens are one, of the bytes that their characters stand for; what is not UTF-8 becomes U+FFFD.
class ByteLevelSink final : public WholeTokenSink {
 public:
  using WholeTokenSink::WholeTokenSink;

  void finish() override {
    std::string text;
    utf8_.finish(text);
    if (!text.empty()) next().part(text);
    next().end_token();
    next().finish();
  }

 private:
  void token(std::string_view token) override {
    std::string text;
    utf8_.push(byte_level_bytes(token), text);
    if (!text.empty()) next().part(text);
  }

  Utf8Stream utf8_;
};

/// Runs of tokens like <0x0A> are one token of these bytes: as text where the whole run is UTF-8, else as one
/// U+FFFD per byte. While streaming, text is passed on once the run so far is UTF-8; a run that breaks later
/// then keeps it, and only what is behind becomes U+FFFD.
class ByteFallbackSink final : public WholeTokenSink {
 public:
  ByteFallbackSink(TokenSink& next, bool streaming) : WholeTokenSink(next), streaming_(streaming) {}

  void finish() override {
    end_run();
    next().finish();
  }

 private:
  void token(std::string_view token) override {
    const auto byte = parse_byte_token(token);
    if (!byte) {
      end_run();
      next().part(token);
      next().end_token();
      return;
    }
    run_.push_back(*byte);
    in_run_ = true;
    // A character has at most four bytes: what four do not complete is broken, and need not be looked at
    // again.
    if (streaming_ && run_.size() <= 4 && is_valid_utf8(run_)) {
      next().part(run_);
      run_.clear();
    }
  }

  void end_run() {
    if (!in_run_) return;
    if (is_valid_utf8(run_)) {
      next().part(run_);
      next().end_token();
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i) {
        next().part("\xEF\xBF\xBD");
        next().end_token();
      }
    }
    run_.clear();
    in_run_ = false;
  }

  bool streaming_;
  bool in_run_ = false;
  std::string run_;  ///< Bytes of the current run that have not been passed on.
};

/// All tokens are one.
class FuseSink final : public TokenSink {
 public:
  explicit FuseSink(TokenSink& next) : next_(next) {}
  void part(std::string_view text) override { next_.part(text); }
  void end_token() override {}
  void finish() override {
    next_.end_token();
    next_.finish();
  }

 private:
  TokenSink& next_;
};

class ReplaceSink final : public WholeTokenSink {
 public:
  ReplaceSink(TokenSink& next, const Pattern& pattern, std::string_view content)
      : WholeTokenSink(next), search_(pattern), content_(content) {}
  void finish() override { next().finish(); }

 private:
  void token(std::string_view token) override {
    search_.find_all(token, matches_);
    std::size_t at = 0;
    for (const Range& match : matches_) {
      next().part(token.substr(at, match.begin - at));
      next().part(content_);
      at = match.end;
    }
    next().part(token.substr(at));
    next().end_token();
  }

  PatternSearch search_;
  std::string_view content_;
  std::vector<Range> matches_;
};

/// Drops up to `start` characters `content` from the start of each token, up to `stop` from its end.
class StripSink final : public TokenSink {
 public:
  StripSink(TokenSink& next, char32_t content, std::int64_t start, std::int64_t stop)
      : next_(next), content_(content), start_(start), stop_(stop) {}

  void part(std::string_view text) override {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      const CodePoint c = decode_at(text, i);
      if (c.value != content_) {
        for (; held_ > 0; --held_) append_utf8(out, content_);
        stripped_ = start_;
        out += text.substr(i, c.bytes);
      } else if (stripped_ < start_) {
        ++stripped_;
      } else if (held_ < stop_) {
        ++held_;  // dropped if the token ends here
      } else {
        append_utf8(out, content_);
      }
      i += c.bytes;
    }
    if (!out.empty()) next_.part(out);
  }

  void end_token() override {
    stripped_ = 0;
    held_ = 0;
    next_.end_token();
  }

  void finish() override { next_.finish(); }

 private:
  TokenSink& next_;
  char32_t content_;
  std::int64_t start_;
  std::int64_t stop_;
  std::int64_t stripped_ = 0;  ///< At the start of this token; start_ once another character has come.
  std::int64_t held_ = 0;  ///< Characters `content` at the end of this token that have not been passed on.
};

/// Writes Metaspace's character as a space; in the first token, where one may have been put in front, not at
/// all.
class MetaspaceSink final : public TokenSink {
 public:
  MetaspaceSink(TokenSink& next, const MetaspaceOptions& options) : next_(next), options_(options) {}

  void part(std::string_view text) override {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      const CodePoint c = decode_at(text, i);
      if (c.value != options_.replacement) {
        out += text.substr(i, c.bytes);
      } else if (!first_ || options_.prepend == MetaspaceOptions::Prepend::kNever) {
        out += ' ';
      }
      i += c.bytes;
    }
    if (!out.empty()) next_.part(out);
  }
  void end_token() override {
    first_ = false;
    next_.end_token();
  }
  void finish() override { next_.finish(); }

 private:
  TokenSink& next_;
  const MetaspaceOptions& options_;
  bool first_ = true;
};

/// Takes spaces that English tokenizing has put into contractions and before punctuation back.
void clean_up(std::string& text) {
  using Rule = std::pair<std::string_view, std::string_view>;
  constexpr std::array kRules = {
      Rule{" .", "."},     Rule{" ?", "?"},     Rule{" !", "!"},           Rule{" ,", ","}, Rule{" ' ", "'"},
      Rule{" n't", "n't"}, Rule{" 'm", "'m"},   Rule{" do not", " don't"},  // as the reference has it
      Rule{" 's", "'s"},   Rule{" 've", "'ve"}, Rule{" 're", "'re"},
  };
  for (const auto& [from, to] : kRules) {
    std::string out;
    std::size_t begin = 0;
    for (std::size_t at = 0; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size()) {
      out.append(text, begin, at - begin);
      out += to;
    }
    if (begin == 0) continue;
    out.append(text, begin);
    text = std::move(out);
  }
}

/// Joins tokens that have the prefix to those before, others by a space; takes that space, and those that
/// English tokenizing has put into contractions, back.
class WordPieceSink final : public WholeTokenSink {
 public:
  WordPieceSink(TokenSink& next, std::string_view prefix, bool cleanup)
      : WholeTokenSink(next), prefix_(prefix), cleanup_(cleanup) {}
  void finish() override { next().finish(); }

 private:
  void token(std::string_view token) override {
    std::string text(token);
    if (!first_) {
      if (token.starts_with(prefix_)) {
        text.erase(0, prefix_.size());
      } else {
        text.insert(0, 1, ' ');
      }
    }
    first_ = false;
    if (cleanup_) clean_up(text);
    next().part(text);
    next().end_token();
  }

  std::string_view prefix_;
  bool cleanup_;
  bool first_ = true;
};

/// Writes the suffix that ends words as a space, and in the last token not at all. What follows the first
/// suffix of a token waits until it shows whether the token is the last.
class SuffixSink final : public WholeTokenSink {
 public:
  SuffixSink(TokenSink& next, std::string_view suffix) : WholeTokenSink(next), suffix_(suffix) {}
  void finish() override {
    if (open_) flush("");
    next().finish();
  }

 private:
  void token(std::string_view token) override {
    if (open_) flush(" ");
    const std::size_t at = suffix_.empty() ? token.size() : std::min(token.find(suffix_), token.size());
    next().part(token.substr(0, at));
    held_ = token.substr(at);
    open_ = true;
  }

  void flush(std::string_view replacement) {
    std::string_view rest = held_;
    while (!rest.empty()) {
      const std::size_t at = std::min(rest.find(suffix_), rest.size());
      next().part(rest.substr(0, at));
      if (at == rest.size()) break;
      next().part(replacement);
      rest.remove_prefix(at + suffix_.size());
    }
    next().end_token();
    held_.clear();
  }

  std::string_view suffix_;
  std::string held_;  ///< Of the token before, from its first suffix on.
  bool open_ = false;
};

class JoiningSink final : public TokenSink {
 public:
  explicit JoiningSink(TokenSink& next) : next_(next) {}
  void part(std::string_view text) override {
    separate();
    next_.part(text);
  }
  void end_token() override {
    separate();
    open_ = false;
  }
  void finish() override {
    next_.end_token();
    next_.finish();
  }

 private:
  void separate() {
    if (!open_ && !first_) next_.part(" ");
    open_ = true;
    first_ = false;
  }

  TokenSink& next_;
  bool first_ = true;
  bool open_ = false;  ///< Inside a token.
};

/// A chain of steps; owns them.
class ChainSink final : public TokenSink {
 public:
  ChainSink(TokenSink& next, const std::vector<std::unique_ptr<Decoder>>& parts, bool streaming)
      : first_(&next) {
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      steps_.push_back((*part)->start(*first_, streaming));
      first_ = steps_.back().get();
    }
  }
  void part(std::string_view text) override { first_->part(text); }
  void end_token() override { first_->end_token(); }
  void finish() override { first_->finish(); }

 private:
  std::vector<std::unique_ptr<TokenSink>> steps_;  ///< From the last to the first.
  TokenSink* first_;
};

class ByteLevel final : public Decoder {
 public:
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<ByteLevelSink>(next);
  }
  void decode_alone(LoneToken& token) const override { token = {byte_level_bytes(token.bytes), true, true}; }
};

class Fuse final : public Decoder {
 public:
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<FuseSink>(next);
  }
  void decode_alone(LoneToken& token) const override { token.joined = true; }
};

/// What is done where a file names no decoder.
class Joining final : public Decoder {
 public:
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<JoiningSink>(next);
  }
  void decode_alone(LoneToken& token) const override { token.bytes.insert(0, 1, ' '); }
};

class ByteFallback final : public Decoder {
 public:
  std::unique_ptr<TokenSink> start(TokenSink& next, bool streaming) const override {
    return std::make_unique<ByteFallbackSink>(next, streaming);
  }
  void decode_alone(LoneToken& token) const override {
    if (const auto byte = parse_byte_token(token.bytes)) token = {std::string(1, *byte), true, token.joined};
  }
};

class Replace final : public Decoder {
 public:
  explicit Replace(const core::JsonView& json)
      : pattern_(json.at("pattern")), content_(json.at("content").as_string()) {}
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<ReplaceSink>(next, pattern_, content_);
  }
  void decode_alone(LoneToken& token) const override {
    TextSink text;
    ReplaceSink replace(text, pattern_, content_);
    replace.part(token.bytes);
    replace.end_token();
    token.bytes = text.take();
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Strip final : public Decoder {
 public:
  explicit Strip(const core::JsonView& json)
      : start_(json.at("start").as_int(0, kMost)), stop_(json.at("stop").as_int(0, kMost)) {
    const core::JsonView content = json.at("content");
    const std::string_view text = content.as_string();
    if (count_code_points(text) != 1) content.fail_expected("a single character");
    content_ = decode_at(text, 0).value;
  }
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<StripSink>(next, content_, start_, stop_);
  }
  void decode_alone(LoneToken& token) const override {
    if (token.joined) return;
    TextSink text;
    StripSink strip(text, content_, start_, stop_);
    strip.part(token.bytes);
    strip.end_token();
    token.bytes = text.take();
  }

 private:
  static constexpr std::int64_t kMost = 1 << 30;
  char32_t content_ = 0;
  std::int64_t start_;
  std::int64_t stop_;
};

class Metaspace final : public Decoder {
 public:
  explicit Metaspace(const core::JsonView& json) : options_(parse_metaspace(json)) {}
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<MetaspaceSink>(next, options_);
  }
  void decode_alone(LoneToken& token) const override {
    TextSink text;
    MetaspaceSink spaces(text, options_);
    if (!token.joined) spaces.end_token();
    spaces.part(token.bytes);
    token.bytes = text.take();
  }

 private:
  MetaspaceOptions options_;
};

class WordPieceDecoder final : public Decoder {
 public:
  explicit WordPieceDecoder(const core::JsonView& json)
      : prefix_(optional_string(json, "prefix", "##")), cleanup_(optional_bool(json, "cleanup", true)) {}
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<WordPieceSink>(next, prefix_, cleanup_);
  }
  void decode_alone(LoneToken& token) const override {
    TextSink text;
    WordPieceSink pieces(text, prefix_, cleanup_);
    if (!token.joined) pieces.end_token();
    pieces.part(token.bytes);
    pieces.end_token();
    token.bytes = text.take();
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(const core::JsonView& json) : suffix_(optional_string(json, "suffix", "</w>")) {}
  std::unique_ptr<TokenSink> start(TokenSink& next, bool) const override {
    return std::make_unique<SuffixSink>(next, suffix_);
  }
  void decode_alone(LoneToken& token) const override {
    TextSink text;
    SuffixSink words(text, suffix_);
    words.part(token.bytes);
    words.end_token();
    if (!token.joined) words.end_token();  // another one follows
    words.finish();
    token.bytes = text.take();
  }

 private:
  std::string suffix_;
};

class DecoderSequence final : public Decoder {
 public:
  explicit DecoderSequence(const core::JsonView& json) {
    for (const core::JsonView& part : json.at("decoders").items()) parts_.push_back(make_decoder(part));
  }
  std::unique_ptr<TokenSink> start(TokenSink& next, bool streaming) const override {
    return std::make_unique<ChainSink>(next, parts_, streaming);
  }
  void decode_alone(LoneToken& token) const override {
    for (const auto& part : parts_) {
      if (token.raw) return;
      part->decode_alone(token);
    }
  }

 private:
  std::vector<std::unique_ptr<Decoder>> parts_;
};

using Made = std::unique_ptr<Decoder>;
using Json = const core::JsonView&;

constexpr std::array kTypes = {
    ComponentType<Decoder>{"ByteLevel", [](Json) -> Made { return std::make_unique<ByteLevel>(); }},
    ComponentType<Decoder>{"Replace", [](Json json) -> Made { return std::make_unique<Replace>(json); }},
    ComponentType<Decoder>{"Fuse", [](Json) -> Made { return std::make_unique<Fuse>(); }},
    ComponentType<Decoder>{"Strip", [](Json json) -> Made { return std::make_unique<Strip>(json); }},
    ComponentType<Decoder>{"ByteFallback", [](Json) -> Made { return std::make_unique<ByteFallback>(); }},
    ComponentType<Decoder>{"Metaspace", [](Json json) -> Made { return std::make_unique<Metaspace>(json); }},
    ComponentType<Decoder>{"WordPiece",
                           [](Json json) -> Made { return std::make_unique<WordPieceDecoder>(json); }},
    ComponentType<Decoder>{"BPEDecoder",
                           [](Json json) -> Made { return std::make_unique<BpeDecoder>(json); }},
    ComponentType<Decoder>{"Sequence",
                           [](Json json) -> Made { return std::make_unique<DecoderSequence>(json); }},
};

}  // namespace

std::string Decoder::bytes_of(std::string_view token) const {
  LoneToken alone{std::string(token)};
  decode_alone(alone);
  return std::move(alone.bytes);
}

std::unique_ptr<Decoder> make_decoder(const core::JsonView& json) {
  return make_component<Decoder>(json, kTypes);
}

std::unique_ptr<Decoder> make_joining_decoder() { return std::make_unique<Joining>(); }

}  // namespace peregrine::text
