// SPDX-License-Identifier: Apache-2.0
#include "text/unigram.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "text/component.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

using core::ErrorKind;

// An unknown character costs so much more than the worst token (SentencePiece's kUnkPenalty).
constexpr double kUnknownPenalty = 10;

std::size_t vocabulary_size(const core::JsonView& json) {
  const core::JsonView vocab = json.at("vocab");
  if (!vocab.is_array()) vocab.fail_expected("an array of [token, score]");
  return vocab.value().get_array().size();
}

}  // namespace

Unigram::Unigram(const core::JsonView& json) : vocabulary_(vocabulary_size(json)), trie_({}) {
  read_vocabulary(json.at("vocab"));
  const auto size = static_cast<std::int64_t>(scores_.size());
  if (const auto unknown = json.find("unk_id")) {
    unknown_id_ = static_cast<std::int32_t>(unknown->as_int(0, size - 1));
  }
  double lowest = 0;
  if (!scores_.empty()) lowest = *std::min_element(scores_.begin(), scores_.end());
  unknown_score_ = lowest - kUnknownPenalty;
  std::vector<ByteTrie::Entry> entries;
  entries.reserve(scores_.size());
  for (std::int32_t id = 0; id < vocabulary_.end_id(); ++id) entries.push_back({*vocabulary_.token(id), id});
  trie_ = ByteTrie(std::move(entries));
  if (optional_bool(json, "byte_fallback", false)) byte_tokens_ = find_byte_tokens(vocabulary_);
}

void Unigram::read_vocabulary(const core::JsonView& json) {
  const auto& vocab = json.value().get_array();
  scores_.reserve(vocab.size());
  for (const auto& item : vocab) {
    const auto* pair = item.if_array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_number()) {
      core::JsonView(item, fmt::format("{}[{}]", json.where(), scores_.size()))
          .fail_expected("an array [token, score]");
    }
    // Some converted vocabularies name a token twice.
    vocabulary_.add((*pair)[0].get_string(), static_cast<std::int64_t>(scores_.size()), json.where(),
                    Vocabulary::Repeated::kLastCounts);
    scores_.push_back((*pair)[1].to_number<double>());
  }
}

std::vector<Unigram::Arrival> Unigram::find_arrivals(std::string_view piece) const {
  std::vector<Arrival> best(piece.size() + 1);
  for (std::size_t begin = 0; begin < piece.size();) {
    const double score_here = best[begin].score;
    const std::size_t character = decode_at(piece, begin).bytes;
    const auto arrive = [&](std::size_t bytes, double score, std::int32_t id) {
      Arrival& there = best[begin + bytes];
      if (there.begin == kNowhere || score > there.score) {
        there = {score, static_cast<std::uint32_t>(begin), id};
      }
    };
    bool known = false;
    trie_.for_each_prefix(piece.substr(begin), [&](std::size_t bytes, std::int32_t id) {
      known = known || bytes == character;
      arrive(bytes, scores_[static_cast<std::size_t>(id)] + score_here, id);
    });
    if (!known) {
      if (!unknown_id_) {
        core::fail(ErrorKind::kInvalidArgument,
                   "{} is not in the tokenizer's vocabulary, and its model has no unk_id",
                   core::quoted(piece.substr(begin, character)));
      }
      arrive(character, unknown_score_ + score_here, *unknown_id_);
    }
    begin += character;
  }
  return best;
}

void Unigram::add_unknown(std::string_view piece, std::uint32_t begin, std::uint32_t end,
                          std::vector<ModelToken>& out) const {
  const std::string_view text = piece.substr(begin, end - begin);
  if (const auto id = vocabulary_.find(text)) {
    out.push_back({*id, begin, end});
    return;
  }
  const auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (!byte_tokens_.empty() &&
      std::all_of(text.begin(), text.end(), [&](char byte) { return token_of(byte) >= 0; })) {
    for (const char byte : text) out.push_back({token_of(byte), begin, end});
    return;
  }
  out.push_back({*unknown_id_, begin, end});
}

void Unigram::tokenize(std::string_view piece, std::vector<ModelToken>& out) const {
  const std::vector<Arrival> best = find_arrivals(piece);
  std::vector<ModelToken> path;  // from the last to the first; neighbouring unknown ones are one
  for (auto end = static_cast<std::uint32_t>(piece.size()); end > 0;) {
    const Arrival& arrival = best[end];
    if (arrival.id == unknown_id_ && !path.empty() && path.back().id == unknown_id_) {
      path.back().begin = arrival.begin;
    } else {
      path.push_back({arrival.id, arrival.begin, end});
    }
    end = arrival.begin;
  }
  for (auto token = path.rbegin(); token != path.rend(); ++token) {
    if (token->id == unknown_id_) {
      add_unknown(piece, token->begin, token->end, out);
    } else {
      out.push_back(*token);
    }
  }
}

}  // namespace peregrine::text
