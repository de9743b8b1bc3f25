// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/stop_strings.h"
#include "generation/parameters.h"
#include "generation/sampled_token.h"
#include "text/tokenizer.h"

namespace peregrine::api {

/// The id of what carries text and is no token (TextAssembler::finish); its log-probability is minus
/// infinity.
inline constexpr std::int32_t kNoToken = -1;

/// A token with the text that it adds to its sequence: empty where its bytes wait for the rest of a
/// character, or where it is a special token that is not shown. All texts together are the text of the
/// sequence.
struct TextToken {
  generation::SampledToken token;
  std::string text;
  bool special = false;
};

/// What a request says about text.
struct TextOptions {
  std::vector<std::string> stop{};    ///< None empty.
  bool include_stop_in_text = false;  ///< LMI's include_stop_str_in_output.
  bool skip_special_tokens = true;
};

/// Makes text of one sequence's tokens and looks for stop strings in it, whatever the tokens' borders and
/// however they come. A token is given out when no stop string can begin in its text any more, so that
/// nothing given out is ever taken back. At a match the text is cut at its beginning (or its end, where the
/// stop string is to be shown): the token in which the cut falls keeps the part before it, those behind are
/// dropped, as if they had never been computed. Of several stop strings the one counts whose match ends first
/// in the text, and of those that end there the longest. Linear time in text and stop strings.
class TextAssembler {
 public:
  /// `tokenizer` must outlive this object; where it is null, tokens have no text.
  TextAssembler(const text::Tokenizer* tokenizer, TextOptions options);
  /// The same with the stop strings of `options` built before: what the sequences of a request share.
  TextAssembler(const text::Tokenizer* tokenizer, const TextOptions& options,
                std::shared_ptr<const StopStrings> stop);
  ~TextAssembler();
  TextAssembler(TextAssembler&&) noexcept;

  /// Adds a token, and appends to `out` what is certain now. After a match, tokens are dropped.
  void push(generation::SampledToken token, std::vector<TextToken>& out);

  /// The sequence has ended with `reason`: appends what was held back. Text that only the end makes certain
  /// (U+FFFD for half a character) goes to the last token of `out`, which therefore must hold tokens of this
  /// sequence only; where `out` is empty, one of id kNoToken carries it. The reason that counts:
  /// kStopSequence where a stop string was found. The last call.
  generation::FinishReason finish(generation::FinishReason reason, std::vector<TextToken>& out);

  /// Whether a stop string was found. No token is needed any more then.
  bool stopped() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace peregrine::api
