// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>

#include "core/error.h"
#include "text/component.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

using core::ErrorKind;

// Words up to this many symbols are merged by looking for the best pair each time; beyond, a heap is faster.
constexpr std::size_t kShortWord = 48;
// Characters whose tokens are found by an array: all that byte-level mapping makes lie below.
constexpr char32_t kLowCharacters = 0x180;
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();

std::size_t merge_count(const core::JsonView& json) {
  const core::JsonView merges = json.at("merges");
  if (!merges.is_array()) merges.fail_expected("an array of merges");
  return merges.value().get_array().size();
}

}  // namespace

Bpe::MergeTable::MergeTable(std::size_t count)
    : seed_(random_seed()), slots_(std::bit_ceil(std::max<std::size_t>(count * 2, 16))) {}

std::size_t Bpe::MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  const auto product = static_cast<unsigned __int128>(pair ^ seed_) * 0x9E3779B97F4A7C15;
  std::size_t slot = (static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64)) & mask;
  while (slots_[slot].pair != kFree && slots_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void Bpe::MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t pair = static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  Slot& slot = slots_[slot_of(pair)];
  slot.pair = pair;
  slot.merge = merge;
}

const Bpe::Merge* Bpe::MergeTable::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  const Slot& slot = slots_[slot_of(pair)];
  return slot.pair == kFree ? nullptr : &slot.merge;
}

Bpe::Bpe(const core::JsonView& json)
    : vocabulary_(read_vocabulary(json.at("vocab"))),
      merges_(merge_count(json)),
      unknown_token_(optional_string(json, "unk_token")),
      prefix_(optional_string(json, "continuing_subword_prefix")),
      suffix_(optional_string(json, "end_of_word_suffix")),
      fuse_unknown_(optional_bool(json, "fuse_unk", false)),
      byte_fallback_(optional_bool(json, "byte_fallback", false)),
      ignore_merges_(optional_bool(json, "ignore_merges", false)) {
  if (const auto dropout = json.find("dropout"); dropout && dropout->as_number() != 0) {
    core::fail(ErrorKind::kUnsupported, "{}: dropout is for training; set it to null", dropout->where());
  }
  read_merges(json.at("merges"));

  ids_of_low_characters_.assign(kLowCharacters, -1);
  for (char32_t c = 0; c < kLowCharacters; ++c) {
    std::string character;
    append_utf8(character, c);
    ids_of_low_characters_[c] = vocabulary_.find(character).value_or(-1);
  }
  if (byte_fallback_) byte_tokens_ = find_byte_tokens(vocabulary_);
}

void Bpe::read_merges(const core::JsonView& json) {
  const auto& merges = json.value().get_array();
  std::size_t rank = 0;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto where = [&] { return fmt::format("{}[{}]", json.where(), i); };
    const auto fail = [&] {
      core::JsonView(merges[i], where()).fail_expected(R"(a string "a b" or an array ["a", "b"])");
    };
    if (merges[i].is_string()) {
      const std::string_view text = merges[i].get_string();
      if (text.starts_with("#version")) continue;
      const std::size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) fail();
      add_merge(text.substr(0, space), text.substr(space + 1), rank++, json.where());
    } else {
      const auto* pair = merges[i].if_array();
      if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string()) fail();
      add_merge((*pair)[0].get_string(), (*pair)[1].get_string(), rank++, json.where());
    }
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right, std::size_t rank,
                    const std::string& where) {
  const auto id_of = [&](std::string_view token) {
    const auto id = vocabulary_.find(token);
    if (!id) {
      core::fail(ErrorKind::kInvalidArgument,
                 "{}: merge {} of {} and {} needs token {}, which is not in the vocabulary", where, rank,
                 core::quoted(left), core::quoted(right), core::quoted(token));
    }
    return *id;
  };
  const std::int32_t left_id = id_of(left);
  const std::int32_t right_id = id_of(right);
  std::string_view joined_right = right;
  if (!prefix_.empty()) {
    if (!right.starts_with(prefix_)) {
      core::fail(ErrorKind::kInvalidArgument, "{}: merge {} of {} and {}: the second lacks the prefix {}",
                 where, rank, core::quoted(left), core::quoted(right), core::quoted(prefix_));
    }
    joined_right.remove_prefix(prefix_.size());
  }
  merges_.set(left_id, right_id,
              {static_cast<std::uint32_t>(rank), id_of(std::string(left) + std::string(joined_right))});
}

std::optional<std::int32_t> Bpe::find_character(std::string_view character, bool first, bool last) const {
  const bool has_prefix = !first && !prefix_.empty();
  const bool has_suffix = last && !suffix_.empty();
  if (has_prefix || has_suffix) {
    std::string token = has_prefix ? prefix_ : std::string();
    token += character;
    if (has_suffix) token += suffix_;
    return vocabulary_.find(token);
  }
  const char32_t c = decode_at(character, 0).value;
  if (c >= kLowCharacters) return vocabulary_.find(character);
  const std::int32_t id = ids_of_low_characters_[c];
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Bpe::fall_back_to_bytes(std::string_view character, std::vector<Symbol>& symbols) const {
  if (!byte_fallback_) return false;
  const auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (std::any_of(character.begin(), character.end(), [&](char byte) { return token_of(byte) < 0; }))
    return false;
  for (const char byte : character) symbols.push_back({token_of(byte), 1});
  return true;
}

void Bpe::split_characters(std::string_view piece, std::vector<Symbol>& symbols) const {
  std::uint32_t unknown_bytes = 0;  // of unknown characters that are not in symbols yet
  const auto flush_unknown = [&] {
    if (unknown_bytes > 0) symbols.push_back({*vocabulary_.find(unknown_token_), unknown_bytes});
    unknown_bytes = 0;
  };
  for (std::size_t i = 0; i < piece.size();) {
    const std::size_t bytes = decode_at(piece, i).bytes;
    const std::string_view character = piece.substr(i, bytes);
    const bool last = i + bytes == piece.size();
    if (const auto id = find_character(character, i == 0, last)) {
      flush_unknown();
      symbols.push_back({*id, static_cast<std::uint32_t>(bytes)});
    } else if (!fall_back_to_bytes(character, symbols) && !unknown_token_.empty()) {
      if (!vocabulary_.find(unknown_token_)) {
        core::fail(ErrorKind::kInvalidArgument,
                   "the tokenizer's unk_token {} is not in its vocabulary, and {} is unknown",
                   core::quoted(unknown_token_), core::quoted(character));
      }
      if (!fuse_unknown_) flush_unknown();
      unknown_bytes += static_cast<std::uint32_t>(bytes);
    }
    i += bytes;
  }
  flush_unknown();
}

void Bpe::merge_short(std::vector<Symbol>& symbols) const {
  // pairs[i] is the merge of symbols i and i + 1.
  std::array<Merge, kShortWord> pairs;
  std::size_t size = symbols.size();
  const auto look_up = [&](std::size_t i) {
    const Merge* merge = merges_.find(symbols[i].id, symbols[i + 1].id);
    pairs[i] = merge != nullptr ? *merge : Merge{kNoRank, -1};
  };
  for (std::size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    const auto* best = std::min_element(pairs.begin(), pairs.begin() + (size - 1),
                                        [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) break;
    const auto at = static_cast<std::size_t>(best - pairs.begin());
    symbols[at] = {best->id, symbols[at].bytes + symbols[at + 1].bytes};
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(size),
              symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    std::copy(pairs.begin() + at + 1, pairs.begin() + size - 1, pairs.begin() + at);
    --size;
    if (at > 0) look_up(at - 1);
    if (at + 1 < size) look_up(at);
  }
  symbols.resize(size);
}

void Bpe::merge_long(std::vector<Symbol>& symbols) const {
  // Symbols stay in place in a doubly linked list; one that was merged into its left neighbour has no bytes.
  // The heap may hold candidates that later merges have made obsolete; they show by another result for the
  // pair there now.
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t at;
    std::int32_t id;
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const auto size = static_cast<std::uint32_t>(symbols.size());
  constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> next(size);
  std::vector<std::uint32_t> previous(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    next[i] = i + 1 < size ? i + 1 : kNone;
    previous[i] = i > 0 ? i - 1 : kNone;
  }
  std::vector<Candidate> heap;
  heap.reserve(size);
  const auto candidate_at = [&](std::uint32_t i) -> std::optional<Candidate> {
    if (i == kNone || next[i] == kNone) return std::nullopt;
    const Merge* merge = merges_.find(symbols[i].id, symbols[next[i]].id);
    if (merge == nullptr) return std::nullopt;
    return Candidate{merge->rank, i, merge->id};
  };
  for (std::uint32_t i = 0; i < size; ++i) {
    if (const auto candidate = candidate_at(i)) heap.push_back(*candidate);
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(heap));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const std::uint32_t at = top.at;
    if (symbols[at].bytes == 0) continue;
    const auto current = candidate_at(at);
    if (!current || current->id != top.id) continue;
    const std::uint32_t right = next[at];
    symbols[at] = {top.id, symbols[at].bytes + symbols[right].bytes};
    symbols[right].bytes = 0;
    next[at] = next[right];
    if (next[at] != kNone) previous[next[at]] = at;
    if (const auto left = candidate_at(previous[at])) queue.push(*left);
    if (const auto here = candidate_at(at)) queue.push(*here);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.bytes == 0; });
}

void Bpe::tokenize(std::string_view piece, std::vector<ModelToken>& out) const {
  if (ignore_merges_) {
    if (const auto id = vocabulary_.find(piece)) {
      out.push_back({*id, 0, static_cast<std::uint32_t>(piece.size())});
      return;
    }
  }
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  split_characters(piece, symbols);
  if (symbols.size() <= kShortWord) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
  std::uint32_t begin = 0;
  for (const Symbol& symbol : symbols) {
    out.push_back({symbol.id, begin, begin + symbol.bytes});
    begin += symbol.bytes;
  }
}

}  // namespace peregrine::text
