// SPDX-License-Identifier: Apache-2.0
#include "text/vocabulary.h"

#include <bit>
#include <cstring>
#include <limits>
#include <random>

#include "core/error.h"

namespace peregrine::text {
namespace {

/// Multiply-and-fold over 8 bytes at a time, keyed by the seed.
std::uint64_t hash(std::string_view text, std::uint64_t seed) {
  const auto mix = [](std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
  std::uint64_t state = seed ^ text.size() * kOdd;
  while (!text.empty()) {
    std::uint64_t word = 0;
    const std::size_t bytes = std::min<std::size_t>(text.size(), sizeof(word));
    std::memcpy(&word, text.data(), bytes);
    state = mix(state ^ word ^ kOdd, seed | 1);
    text.remove_prefix(bytes);
  }
  return mix(state ^ seed, kOdd);
}

}  // namespace

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

Vocabulary::Vocabulary(std::size_t count)
    : seed_(random_seed()),
      end_limit_(static_cast<std::int64_t>(count) + kMaxHoles),
      slots_(std::bit_ceil(std::max<std::size_t>(count * 2, 16))) {
  entries_.reserve(count);
}

std::size_t Vocabulary::slot_of(std::string_view token) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = hash(token, seed_) & mask;
  while (slots_[slot] != 0 && text_of(entries_[slots_[slot] - 1]) != token) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::add(std::string_view token, std::int64_t id, std::string_view where, Repeated repeated) {
  using core::ErrorKind;
  if (id < 0 || id >= end_limit_) {
    core::fail(ErrorKind::kInvalidArgument,
               "{}: the id {} of token {} is out of range: 0 to {} are allowed here", where, id,
               core::quoted(token), end_limit_ - 1);
  }
  if (text_.size() + token.size() > std::numeric_limits<std::uint32_t>::max() ||
      entries_.size() * 2 >= slots_.size()) {
    core::fail(ErrorKind::kInternal, "{}: more tokens than announced", where);
  }
  const std::size_t slot = slot_of(token);
  if (slots_[slot] != 0 && repeated == Repeated::kRefuse) {
    core::fail(ErrorKind::kInvalidArgument, "{}: token {} is there twice, with ids {} and {}", where,
               core::quoted(token), entries_[slots_[slot] - 1].id, id);
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= entry_of_id_.size()) entry_of_id_.resize(index + 1);
  if (entry_of_id_[index] != 0) {
    core::fail(ErrorKind::kInvalidArgument, "{}: tokens {} and {} have the same id {}", where,
               core::quoted(text_of(entries_[entry_of_id_[index] - 1])), core::quoted(token), id);
  }
  entries_.push_back({static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(token.size()),
                      static_cast<std::int32_t>(id)});
  text_ += token;
  slots_[slot] = entry_of_id_[index] = static_cast<std::uint32_t>(entries_.size());
}

std::optional<std::int32_t> Vocabulary::find(std::string_view token) const {
  const std::uint32_t entry = slots_[slot_of(token)];
  if (entry == 0) return std::nullopt;
  return entries_[entry - 1].id;
}

std::optional<std::string_view> Vocabulary::token(std::int32_t id) const {
  if (id < 0 || id >= end_id() || entry_of_id_[static_cast<std::size_t>(id)] == 0) return std::nullopt;
  return text_of(entries_[entry_of_id_[static_cast<std::size_t>(id)] - 1]);
}

Vocabulary read_vocabulary(const core::JsonView& json) {
  if (!json.is_object()) json.fail_expected("an object of tokens and their ids");
  const auto& members = json.value().get_object();
  Vocabulary vocabulary(members.size());
  // Straight from the parsed object: naming the place of each of 100,000s of members in advance would take
  // longer than everything else.
  for (const auto& member : members) {
    if (!member.value().is_int64()) {
      core::JsonView(member.value(), fmt::format("{}: {}", json.where(), core::quoted(member.key())))
          .fail_expected("an integer");
    }
    vocabulary.add(member.key(), member.value().get_int64(), json.where());
  }
  return vocabulary;
}

std::vector<std::int32_t> find_byte_tokens(const Vocabulary& vocabulary) {
  std::vector<std::int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) {
    ids.push_back(vocabulary.find(fmt::format("<0x{:02X}>", byte)).value_or(-1));
  }
  return ids;
}

}  // namespace peregrine::text
