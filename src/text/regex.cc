// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"
#include "text/regex_syntax.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

using Clock = std::chrono::steady_clock;

// Patterns of real files have a few hundred bytes.
constexpr std::size_t kMaxPatternBytes = 64 * 1024;
constexpr std::uint32_t kHeapLimitKiB = 64 * 1024;
// Backtracking points of one match attempt: \s*[\r\n] on a long run of spaces takes a few per byte.
constexpr std::size_t kMatchSteps = 100'000;
constexpr std::size_t kMatchStepsPerByte = 8;
constexpr auto kTimeBudget = std::chrono::seconds(5);
constexpr auto kTimePerByte = std::chrono::microseconds(10);
// Start positions that one call of the engine may try. The engine's step limit counts per start position, so
// a slow pattern is asked for one position at a time and the clock is read in between.
constexpr std::size_t kFirstWindow = 64;
constexpr auto kSlowCall = std::chrono::milliseconds(1);

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using CodePointer = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

struct Regex::Code {
  std::string pattern;
  CodePointer compiled;
};

Regex::Regex(std::string_view pattern, std::string_view where) {
  if (pattern.size() > kMaxPatternBytes) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "{}: a regular expression of {} bytes, at most {} are allowed", where, pattern.size(),
               kMaxPatternBytes);
  }
  const std::string translated = translate_regex(pattern, where);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  // MULTILINE: Ruby's ^ and $ are always borders of lines.
  constexpr std::uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePointer compiled(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                     kOptions, &error, &offset, context.get()));
  if (!compiled) {
    core::fail(core::ErrorKind::kInvalidArgument, "{}: the regular expression {} does not compile: {}", where,
               core::quoted(pattern), message_of(error));
  }
  // Fails only where there is no JIT compiler for this machine or pattern; the interpreter gives the same
  // matches.
  pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);
  code_ = std::make_unique<const Code>(Code{std::string(pattern), std::move(compiled)});
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

struct RegexSearch::State {
  MatchContext context;
  MatchData data;
  std::size_t window = kFirstWindow;
  Clock::duration spent{};
  Clock::duration budget = kTimeBudget;
  std::vector<Range> found;
};

RegexSearch::RegexSearch(const Regex& regex) : regex_(regex), state_(std::make_unique<State>()) {
  state_->context.reset(pcre2_match_context_create(nullptr));
  state_->data.reset(pcre2_match_data_create(1, nullptr));
  if (!state_->context || !state_->data) throw std::bad_alloc();
  pcre2_set_heap_limit(state_->context.get(), kHeapLimitKiB);
}

RegexSearch::~RegexSearch() = default;

void RegexSearch::charge(Clock::duration spent) {
  state_->spent += spent;
  if (state_->spent <= state_->budget) return;
  core::fail(core::ErrorKind::kInvalidArgument,
             "the tokenizer's regular expression {} takes too long on this text",
             core::quoted(regex_.code_->pattern));
}

bool RegexSearch::search(std::string_view text, std::size_t from, std::size_t limit, Range& match) {
  pcre2_set_offset_limit(state_->context.get(), limit);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto run = [&](std::uint32_t options) {
    return pcre2_match(regex_.code_->compiled.get(), subject, text.size(), from, options | PCRE2_NO_UTF_CHECK,
                       state_->data.get(), state_->context.get());
  };
  int result = run(0);
  // Compiled code backtracks on a small stack; the interpreter does on the heap, up to the limit.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "the tokenizer's regular expression {} fails on a text of {} bytes: {}",
               core::quoted(regex_.code_->pattern), text.size(), message_of(result));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state_->data.get());
  match = {static_cast<std::uint32_t>(bounds[0]), static_cast<std::uint32_t>(bounds[1])};
  return true;
}

bool RegexSearch::next(std::string_view text, std::size_t from, Range& match) {
  while (from <= text.size()) {
    const std::size_t limit = std::min(text.size(), from + state_->window - 1);
    const auto start = Clock::now();
    const bool found = search(text, from, limit, match);
    const auto spent = Clock::now() - start;
    charge(spent);
    if (spent > kSlowCall) {
      state_->window = 1;
    } else if (!found) {
      state_->window = std::min(state_->window * 2, kMaxTextBytes);
    }
    if (found) return true;
    from = limit + 1;
    while (from < text.size() && is_continuation(text[from])) ++from;
  }
  return false;
}

void RegexSearch::find_all(std::string_view text, std::vector<Range>& matches) {
  matches.clear();
  const std::size_t steps = std::min<std::size_t>(kMatchSteps + kMatchStepsPerByte * text.size(),
                                                  std::numeric_limits<std::uint32_t>::max());
  pcre2_set_match_limit(state_->context.get(), static_cast<std::uint32_t>(steps));
  state_->budget += kTimePerByte * static_cast<std::int64_t>(text.size());
  state_->window = kFirstWindow;
  std::size_t from = 0;
  Range match;
  while (from <= text.size() && next(text, from, match)) {
    const bool repeats = match.empty() && !matches.empty() && matches.back().end == match.end;
    if (!repeats) {
      matches.push_back(match);
      from = match.end;
    } else {
      from += from < text.size() ? decode_at(text, from).bytes : 1;
    }
  }
}

}  // namespace peregrine::text
