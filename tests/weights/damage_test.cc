// SPDX-License-Identifier: Apache-2.0
// Systematic damage to whole files: every mutation must end in a core::Error that names the file, and none
// may read outside the mapping (the sanitizer builds see that) or use memory that the file does not have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "fixtures.h"
#include "support/test_data.h"
#include "weights/checkpoint.h"
#include "weights/safetensors_header.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using peregrine::testing::TemporaryDirectory;
using ::testing::HasSubstr;

/// One tensor entry as text, so that each field can be replaced by anything.
struct Entry {
  std::string name, dtype, shape, begin, end;

  std::string text() const {
    return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape,
                       begin, end);
  }
};

/// A sound model of several types, shapes and an empty tensor; 66 bytes of data.
std::vector<Entry> sound_entries() {
  return {{"embed", "F32", "[3,4]", "0", "48"},
          {"norm", "BF16", "[4]", "48", "56"},
          {"empty", "F16", "[0,4]", "56", "56"},
          {"mask", "BOOL", "[2]", "56", "58"},
          {"position", "I64", "[1]", "58", "66"}};
}
constexpr std::size_t kData = 66;

std::string header_of(const std::vector<Entry>& entries) {
  std::string out = R"({"__metadata__":{"format":"pt"})";
  for (const auto& entry : entries) out += "," + entry.text();
  return out + "}";
}

std::string sound_file() { return file_of(header_of(sound_entries()), pattern(kData)); }

/// Opens `bytes` as a model on disk, as a user would meet them.
class Damage : public ::testing::Test {
 protected:
  Caught open(std::string_view bytes) {
    ++count_;
    // A new file: shortening one that is mapped is another matter.
    std::filesystem::remove(path());
    write_text(path(), bytes);
    return caught([&] { Checkpoint::open(directory_.path()); });
  }

  void expect_refused(std::string_view bytes, const std::string& what) {
    const Caught error = open(bytes);
    ASSERT_TRUE(error.kind.has_value()) << what;
    EXPECT_EQ(core::exit_code(*error.kind), 2) << what << ": " << error.message;
    EXPECT_THAT(error.message, HasSubstr(path().string())) << what;
  }

  std::filesystem::path path() const { return directory_.path() / "model.safetensors"; }

  const TemporaryDirectory directory_;
  int count_ = 0;
};

TEST_F(Damage, TheSoundFileOpens) { EXPECT_EQ(open(sound_file()).message, "no error"); }

TEST_F(Damage, TruncationAtEveryByte) {
  const std::string sound = sound_file();
  for (std::size_t size = 0; size < sound.size(); ++size) {
    expect_refused(std::string_view(sound).substr(0, size), fmt::format("cut to {} bytes", size));
  }
  for (const std::size_t extra : {1, 7, 8, 4096}) {
    expect_refused(sound + std::string(extra, '\0'), fmt::format("{} bytes more", extra));
  }
  EXPECT_GE(count_, 400);
}

TEST_F(Damage, EveryExtentMovedAndEveryShapeChanged) {
  const auto refuse = [this](const std::vector<Entry>& entries, std::string Entry::*field, std::size_t i) {
    expect_refused(file_of(header_of(entries), pattern(kData)), entries[i].name + " = " + entries[i].*field);
  };
  for (std::size_t i = 0; i < sound_entries().size(); ++i) {
    for (std::string Entry::*field : {&Entry::begin, &Entry::end}) {
      const std::uint64_t value = std::stoull(sound_entries()[i].*field);
      std::vector<std::string> others = {"4294967296",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "1e300",
                                         "-1",
                                         "0.5",
                                         "null",
                                         "true",
                                         "\"0\"",
                                         "[]",
                                         "{}",
                                         std::string(400, '9')};
      for (const std::uint64_t step : {1, 2, 4, 8}) {
        others.push_back(std::to_string(value + step));
        if (value >= step) others.push_back(std::to_string(value - step));
      }
      for (const auto& other : others) {
        auto entries = sound_entries();
        entries[i].*field = other;
        refuse(entries, field, i);
      }
    }
    const bool empty = sound_entries()[i].name == "empty";
    for (const std::string shape : {"[5]", "[3,5]", "[1,1]", "[9223372036854775807]", "[9223372036854775808]",
                                    "[4294967296,4294967296]", "[4611686018427387904,4,0]", "[-1]", "[1.5]",
                                    "[null]", "[\"3\"]", "[[3]]", "{}", "null", "12", "\"[3,4]\""}) {
      auto entries = sound_entries();
      if (shape == "[1,1]" && entries[i].name == "position") continue;  // holds as many elements
      entries[i].shape = shape;
      refuse(entries, &Entry::shape, i);
    }
    for (const std::string dtype : {"F64", "U8", "F4", "", "f32", "float32"}) {
      auto entries = sound_entries();
      const auto old = parse_safetensors_dtype(entries[i].dtype), other = parse_safetensors_dtype(dtype);
      if (other && (empty || core::size_of(*old) == core::size_of(*other))) continue;  // as many bytes
      entries[i].dtype = dtype;
      refuse(entries, &Entry::dtype, i);
    }
  }
  EXPECT_GE(count_, 250);
}

TEST_F(Damage, TensorsLeftOutRepeatedOrSwapped) {
  for (std::size_t i = 0; i < sound_entries().size(); ++i) {
    auto entries = sound_entries();
    entries.push_back(entries[i]);
    expect_refused(file_of(header_of(entries), pattern(kData)), "twice " + entries[i].name);
    entries = sound_entries();
    if (entries[i].name != "empty") {
      const Entry gone = entries[i];
      entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(i));
      expect_refused(file_of(header_of(entries), pattern(kData)), "without " + gone.name);
    }
    for (std::size_t j = 0; j < i; ++j) {
      entries = sound_entries();
      entries[i].name = entries[j].name;
      expect_refused(file_of(header_of(entries), pattern(kData)), "renamed to " + entries[j].name);
      entries = sound_entries();
      if (entries[i].end == "66" && entries[j].end == "56") continue;  // position and norm both have 8 bytes
      std::swap(entries[i].begin, entries[j].begin);
      std::swap(entries[i].end, entries[j].end);
      expect_refused(file_of(header_of(entries), pattern(kData)), "swapped with " + entries[j].name);
    }
  }
}

TEST_F(Damage, EveryBitOfTheLengthFlipped) {
  for (int bit = 0; bit < 64; ++bit) {
    std::string bytes = sound_file();
    bytes[static_cast<std::size_t>(bit / 8)] ^= static_cast<char>(1 << (bit % 8));
    expect_refused(bytes, fmt::format("length, bit {}", bit));
  }
}

/// A flipped bit may leave a sound file (another letter in a name); it must never do worse than an error.
TEST_F(Damage, EveryBitOfTheHeaderFlipped) {
  const std::string sound = sound_file();
  int refused = 0;
  for (std::size_t bit = 64; bit < (sound.size() - kData) * 8; ++bit) {
    std::string bytes = sound;
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    const Caught error = caught([&] { parse_safetensors(as_bytes(bytes), "m.safetensors"); });
    if (!error.kind) continue;
    ++refused;
    EXPECT_EQ(core::exit_code(*error.kind), 2) << error.message;
    EXPECT_THAT(error.message, ::testing::StartsWith("m.safetensors: "));
  }
  EXPECT_GT(refused, 1500);
}

/// Every token of the header replaced by every kind of JSON value, cut out, or doubled.
TEST_F(Damage, EveryTokenReplaced) {
  const std::string header = header_of(sound_entries());
  std::vector<std::pair<std::size_t, std::size_t>> tokens;  // begin, size
  for (std::size_t i = 0; i < header.size();) {
    std::size_t end = i + 1;
    if (header[i] == '"') {
      end = header.find('"', i + 1) + 1;
    } else if (std::isdigit(static_cast<unsigned char>(header[i])) != 0) {
      end = header.find_first_not_of("0123456789", i);
    }
    tokens.emplace_back(i, end - i);
    i = end;
  }
  ASSERT_GT(tokens.size(), 100u);
  int refused = 0, accepted = 0;
  for (const auto& [begin, size] : tokens) {
    const std::string token = header.substr(begin, size);
    for (const std::string& other :
         std::vector<std::string>{"", token + token, token + "," + token, "null", "true", "-1", "1.5",
                                  "1e999", "18446744073709551616", "\"\"", "\"x\"", "[]", "{}", "[[", "}}",
                                  "\\", "\xff", std::string(1, '\0'), "\"\\ud800\""}) {
      std::string text = header;
      text.replace(begin, size, other);
      const std::string bytes = file_of(text, pattern(kData));
      SafetensorsHeader parsed;
      const Caught error = caught([&] { parsed = parse_safetensors(as_bytes(bytes), "m.safetensors"); });
      (error.kind ? refused : accepted) += 1;
      if (error.kind) continue;
      // Another name, other free text, or a shape with as many elements: still a model that covers its file.
      EXPECT_EQ(parsed.entries.size(), sound_entries().size()) << token << " -> " << other;
      EXPECT_EQ(parsed.entries.back().end, kData) << token << " -> " << other;
    }
  }
  EXPECT_GT(refused, 2000);
  EXPECT_LT(accepted, 40);
}

/// The peak of resident memory since the last reset, in bytes; resets it where the system lets us.
std::uint64_t peak_and_reset() {
  std::uint64_t peak = 0;
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmHWM:")) peak = std::stoull(line.substr(6)) * 1024;
  }
  std::ofstream("/proc/self/clear_refs") << "5";
  return peak;
}

TEST_F(Damage, ClaimsOfHugeSizesUseNoMemory) {
  peak_and_reset();
  const std::uint64_t before = peak_and_reset();
  for (int shift = 20; shift < 64; ++shift) {
    const std::uint64_t huge = std::uint64_t{1} << shift;
    std::string bytes = file_of("{}", "");
    std::memcpy(bytes.data(), &huge, sizeof huge);
    expect_refused(bytes, fmt::format("length 2^{}", shift));
    auto entries = sound_entries();
    entries[4].shape = fmt::format("[{}]", huge / 8);
    entries[4].end = std::to_string(58 + huge);
    expect_refused(file_of(header_of(entries), pattern(kData)), fmt::format("tensor of 2^{}", shift));
  }
  EXPECT_LT(peak_and_reset() - before, std::uint64_t{16} << 20);
}

TEST_F(Damage, HostileHeadersUseMemoryInProportion) {
  constexpr std::size_t kSize = 4 << 20;
  std::string digits, arrays, names;
  while (digits.size() < kSize) digits += "1,";
  while (arrays.size() < kSize) arrays += "[],";
  for (int i = 0; names.size() < kSize; ++i) {
    names += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  }
  std::vector<std::string> headers = {
      R"({"t":{"shape":[)" + digits + "1]}}",
      R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[)" + digits + "1]}}",
      R"({"t":[)" + arrays + "[]]}",
      R"({"t":)" + std::string(kSize, '['),
      R"({"t":)" + std::string(kSize, ' '),
      R"({")" + std::string(kSize, 'n') + R"(":1})",
      R"({"t":{"dtype":")" + std::string(kSize, 'F') + R"("}})",
      R"({"t":{"dtype":"F32","shape":[)" + std::string(kSize, '9') + "]}}",
  };
  names.pop_back();
  headers.push_back("{" + names + R"(,"0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})");
  for (const auto& header : headers) {
    peak_and_reset();
    const std::uint64_t before = peak_and_reset();
    const Caught error = caught([&] { parse_safetensors_header(header, 8, "m.safetensors"); });
    EXPECT_TRUE(error.kind.has_value()) << header.substr(0, 60);
    EXPECT_LT(error.message.size(), 600u);  // a hostile name does not fill the log
    EXPECT_LT(peak_and_reset() - before, 16 * kSize) << header.substr(0, 60);
  }
}

}  // namespace
}  // namespace peregrine::weights
