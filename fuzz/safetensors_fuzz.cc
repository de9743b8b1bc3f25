// SPDX-License-Identifier: Apache-2.0
// rooms: weights core
//
// The input is read three times: as a whole safetensors file; as the header of one, behind two bytes that say
// how long its data is (or else no mutation would get past the length); and as a shard index.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "weights/safetensors_header.h"
#include "weights/safetensors_index.h"
#include "weights/tensor.h"

namespace {

using namespace peregrine;  // NOLINT

void require(bool condition) {
  if (!condition) std::abort();
}

/// What parse_safetensors promises of a header that it accepts.
void check(const weights::SafetensorsHeader& header, std::uint64_t data_size) {
  std::uint64_t covered = 0;
  for (const auto& entry : header.entries) {
    require(entry.begin == covered && entry.end >= entry.begin);
    require(weights::byte_size(entry.shape, entry.dtype) == entry.end - entry.begin);
    covered = entry.end;
  }
  require(covered == data_size);
}

/// Runs a parser; any exception but core::Error, or an error that would not be the input's fault, is a find.
template <typename Parse>
void expect_answer(Parse&& parse) {
  try {
    parse();
  } catch (const core::Error& error) {
    require(core::exit_code(error.kind()) == 2);
    require(std::string_view(error.what()).starts_with("fuzz"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  expect_answer([&] {
    const auto header = weights::parse_safetensors(file, "fuzz");
    check(header, size - header.data_start);
  });
  if (size >= 2) {
    const std::uint64_t data_size = data[0] | (static_cast<std::uint64_t>(data[1]) << 8);
    expect_answer(
        [&] { check(weights::parse_safetensors_header(text.substr(2), data_size, "fuzz"), data_size); });
  }
  expect_answer([&] {
    const auto index = weights::parse_safetensors_index(text, "fuzz");
    require(!index.entries.empty() && !index.shards.empty());
    for (const auto& entry : index.entries) require(entry.shard < index.shards.size());
    for (const auto& shard : index.shards) require(shard.find('/') == std::string::npos && shard != "..");
  });
  return 0;
}
