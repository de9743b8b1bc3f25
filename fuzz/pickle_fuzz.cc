// SPDX-License-Identifier: Apache-2.0
// rooms: weights core
//
// The input is read three times: as a pickle; as the pickle of a file of torch.save that is built around it,
// with storages of some sizes (or else few mutations would get past the zip directory); and as such a file
// itself.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "weights/strided_copy.h"
#include "weights/tensor.h"
#include "weights/tensor_pickle.h"
#include "weights/torch_archive.h"
#include "weights/zip_directory.h"

namespace {

using namespace peregrine;  // NOLINT

void require(bool condition) {
  if (!condition) std::abort();
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

/// What read_tensor_pickle() promises.
void check(const weights::PickledTensors& pickled) {
  const weights::PickledTensor* previous = nullptr;
  for (const auto& tensor : pickled.tensors) {
    require(previous == nullptr || previous->name < tensor.name);
    require(tensor.shape.size() == tensor.strides.size() && tensor.shape.size() <= weights::kMaxTensorRank);
    for (const auto size : tensor.shape) require(size >= 0);
    for (const auto stride : tensor.strides) require(stride >= 0);
    previous = &tensor;
  }
}

/// What parse_torch_archive() promises: every element can be read, and a copy is never larger than the file.
void check(const weights::TorchArchive& archive, std::span<const std::byte> file) {
  for (const auto& entry : archive.entries) {
    require(entry.begin <= entry.end && entry.end <= file.size());
    const auto bytes = weights::byte_size(entry.shape, entry.dtype);
    require(bytes.has_value());
    const auto source = file.subspan(entry.begin, entry.end - entry.begin);
    if (entry.strides.empty()) {
      require(*bytes == source.size());
      continue;
    }
    require(*bytes <= file.size());
    std::vector<std::byte> copy(*bytes);
    weights::copy_strided(source, entry.shape, entry.strides, core::size_of(entry.dtype), copy);
  }
}

/// A zip archive with this pickle and storages "0" to "3".
std::string archive_around(std::string_view pickle) {
  const auto number = [](std::uint64_t value, std::size_t size) {
    return std::string(reinterpret_cast<const char*>(&value), size);
  };
  std::string out, directory;
  std::uint64_t count = 0;
  const auto add = [&](const std::string& name, std::string_view data) {
    const std::uint64_t offset = out.size();
    out += "PK\3\4" + std::string(22, '\0') + number(name.size(), 2) + number(0, 2) + name;
    out += data;
    directory += "PK\1\2" + std::string(16, '\0') + number(data.size(), 4) + number(data.size(), 4) +
                 number(name.size(), 2) + std::string(12, '\0') + number(offset, 4) + name;
    ++count;
  };
  add("a/data.pkl", pickle);
  add("a/data/0", std::string(16, '0'));
  add("a/data/1", std::string(96, '1'));
  add("a/data/2", std::string(1024, '2'));
  add("a/data/3", "");
  const std::uint64_t start = out.size();
  return out + directory + "PK\5\6" + std::string(4, '\0') + number(count, 2) + number(count, 2) +
         number(directory.size(), 4) + number(start, 4) + number(0, 2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  expect_answer([&] { check(weights::read_tensor_pickle(text, "fuzz")); });
  expect_answer([&] {
    const std::string whole = archive_around(text);
    const auto bytes = std::as_bytes(std::span(whole));
    check(weights::parse_torch_archive(bytes, "fuzz"), bytes);
  });
  expect_answer([&] { check(weights::parse_torch_archive(file, "fuzz"), file); });
  expect_answer([&] {
    std::uint64_t covered = 0;
    auto entries = weights::read_zip_directory(file, "fuzz");
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    for (const auto& entry : entries) {
      require(entry.begin >= covered && entry.begin <= entry.end && entry.end <= size);
      covered = entry.end;
    }
  });
  return 0;
}
