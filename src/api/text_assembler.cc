// SPDX-License-Identifier: Apache-2.0
#include "api/text_assembler.h"

#include <deque>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "text/detokenizer.h"

namespace peregrine::api {

using generation::FinishReason;

struct TextAssembler::State {
  const text::Tokenizer* tokenizer;
  std::shared_ptr<const StopStrings> stop;
  bool include_stop;
  bool skip_special;
  std::optional<text::StreamingDetokenizer> detokenizer{};

  std::deque<TextToken> held{};  ///< Tokens that are not certain yet; their text begins at held_begin.
  std::size_t held_begin = 0;    ///< Positions are bytes of the sequence's text.
  std::size_t end = 0;           ///< Of the text so far.
  StopStrings::Node node = StopStrings::kStart;
  bool stopped = false;

  /// Looks for the end of a match in the text of the token that was held last. The position of the cut.
  std::optional<std::size_t> search(std::string_view text) {
    for (const char byte : text) {
      node = stop->next(node, byte);
      ++end;
      const std::size_t matched = stop->matched(node);
      if (matched > 0) return include_stop ? end : end - matched;
    }
    return std::nullopt;
  }

  void add(TextToken token, std::vector<TextToken>& out) {
    held.push_back(std::move(token));
    if (const auto cut_at = search(held.back().text)) {
      cut(*cut_at, out);
    } else {
      release(end - stop->held(node), out);
    }
  }

  /// Gives out the tokens whose text ends at `limit` or before.
  void release(std::size_t limit, std::vector<TextToken>& out) {
    while (!held.empty() && held_begin + held.front().text.size() <= limit) {
      held_begin += held.front().text.size();
      out.push_back(std::move(held.front()));
      held.pop_front();
    }
  }

  void cut(std::size_t position, std::vector<TextToken>& out) {
    stopped = true;
    release(position, out);
    if (held_begin < position) {  // then there is a token that goes beyond
      held.front().text.resize(position - held_begin);
      out.push_back(std::move(held.front()));
    }
    held.clear();
  }
};

TextAssembler::TextAssembler(const text::Tokenizer* tokenizer, TextOptions options)
    : TextAssembler(tokenizer, options, std::make_shared<StopStrings>(options.stop)) {}

TextAssembler::TextAssembler(const text::Tokenizer* tokenizer, const TextOptions& options,
                             std::shared_ptr<const StopStrings> stop)
    : state_(
          new State{tokenizer, std::move(stop), options.include_stop_in_text, options.skip_special_tokens}) {
  if (tokenizer != nullptr) state_->detokenizer.emplace(*tokenizer, options.skip_special_tokens);
}

TextAssembler::~TextAssembler() = default;
TextAssembler::TextAssembler(TextAssembler&&) noexcept = default;

void TextAssembler::push(generation::SampledToken token, std::vector<TextToken>& out) {
  if (state_->stopped) return;
  TextToken added;
  if (state_->tokenizer != nullptr) {
    added.text = state_->detokenizer->push(token.token.id);
    added.special = state_->tokenizer->is_special(token.token.id);
  }
  added.token = std::move(token);
  state_->add(std::move(added), out);
}

FinishReason TextAssembler::finish(FinishReason reason, std::vector<TextToken>& out) {
  if (state_->stopped) return FinishReason::kStopSequence;
  std::string rest = state_->detokenizer ? state_->detokenizer->finish() : std::string();
  if (!rest.empty()) {
    // It is searched as a token of its own, and then becomes part of the one before.
    TextToken carrier;
    carrier.token.token.id = kNoToken;
    carrier.token.token.log_prob = -std::numeric_limits<float>::infinity();
    carrier.text = std::move(rest);
    state_->add(std::move(carrier), out);
  }
  state_->release(state_->end, out);
  if (out.size() > 1 && out.back().token.token.id == kNoToken) {
    out[out.size() - 2].text += out.back().text;
    out.pop_back();
  }
  return state_->stopped ? FinishReason::kStopSequence : reason;
}

bool TextAssembler::stopped() const { return state_->stopped; }

}  // namespace peregrine::api
