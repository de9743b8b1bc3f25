// SPDX-License-Identifier: Apache-2.0
// Whole .bin files: the zip directory, the storages behind tensors, and files of other formats.
#include "weights/torch_archive.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "fixtures.h"
#include "support/test_data.h"
#include "torch_fixtures.h"
#include "weights/torch_file.h"
#include "weights/zip_directory.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using namespace std::string_literals;  // NOLINT

Caught refused(const std::string& bytes) {
  return caught([&] { parse_torch_archive(as_bytes(bytes), "model.bin"); });
}

void expect_refused(const std::string& bytes, ErrorKind kind, const std::string& part) {
  const Caught error = refused(bytes);
  EXPECT_EQ(error.kind, kind) << error.message;
  EXPECT_THAT(error.message, AllOf(StartsWith("model.bin: "), HasSubstr(part)));
}

/// Two tensors, of 24 and 8 bytes.
const std::string kPickle =
    pickle::dict({{"a", pickle::tensor(pickle::storage("FloatStorage", "0", 6), 0, {2, 3}, {3, 1})},
                  {"b", pickle::vector("HalfStorage", "1", 4)}});

std::vector<ZipPart> sound_parts() { return torch_parts(kPickle, {pattern(24, 1), pattern(8, 2)}); }

/// One tensor `w` over a storage of 12 floats.
std::string one(std::int64_t offset, std::vector<std::int64_t> shape, std::vector<std::int64_t> strides) {
  return torch_bytes(
      pickle::dict({{"w", pickle::tensor(pickle::storage("FloatStorage", "0", 12), offset, shape, strides)}}),
      {pattern(48)});
}

void expect_sound(const std::string& bytes) {
  const TorchArchive archive = parse_torch_archive(as_bytes(bytes), "model.bin");
  ASSERT_EQ(archive.entries.size(), 2u);
  const TorchEntry &a = archive.entries[0], &b = archive.entries[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  EXPECT_THAT(a.strides, IsEmpty());
  EXPECT_EQ(bytes.substr(a.begin, a.end - a.begin), pattern(24, 1));
  EXPECT_EQ(b.dtype, DType::kF16);
  EXPECT_EQ(bytes.substr(b.begin, b.end - b.begin), pattern(8, 2));
}

TEST(TorchArchive, ReadsZipAndZip64) {
  for (const bool end64 : {true, false}) expect_sound(zip_of(sound_parts(), {.end64 = end64}));
  expect_sound(zip_of(sound_parts(), {.end64 = true, .fields64 = true}));
  expect_sound(zip_of(sound_parts(), {.comment = "of 'PK\5\6', " + std::string(300, 'x')}));
  auto parts = sound_parts();
  std::reverse(parts.begin(), parts.end());
  expect_sound(zip_of(parts));
}

TEST(TorchArchive, TensorsWithinTheirStorage) {
  const auto entry = [](const std::string& bytes) {
    return parse_torch_archive(as_bytes(bytes), "model.bin").entries.at(0);
  };
  EXPECT_EQ(entry(one(3, {3, 3}, {3, 1})).end - entry(one(3, {3, 3}, {3, 1})).begin, 36u);
  EXPECT_THAT(entry(one(0, {4, 3}, {1, 4})).strides, ElementsAre(1, 4));   // transposed
  EXPECT_THAT(entry(one(0, {2, 3}, {6, 2})).strides, ElementsAre(6, 2));   // every other one
  EXPECT_THAT(entry(one(11, {}, {})).strides, IsEmpty());                  // a scalar
  EXPECT_THAT(entry(one(0, {1, 12, 1}, {99, 1, 77})).strides, IsEmpty());  // strides that do not matter
  const TorchEntry empty = entry(one(12, {0, 5}, {5, 1}));
  EXPECT_EQ(empty.begin, empty.end);
  // Each wrong by one, and where the arithmetic would wrap.
  constexpr std::int64_t kLargest = INT64_MAX;
  for (const std::string& bytes :
       {one(1, {4, 3}, {3, 1}), one(0, {13}, {1}), one(0, {2, 3}, {10, 1}), one(12, {}, {}),
        one(13, {0}, {1}), one(kLargest, {1}, {1}), one(0, {2}, {kLargest}), one(0, {3}, {kLargest}),
        one(kLargest, {2}, {kLargest}), one(kLargest, {3, 3}, {kLargest, kLargest})}) {
    expect_refused(bytes, ErrorKind::kDataLoss, "tensor 'w' of shape ");
  }
  expect_refused(one(0, {kLargest, kLargest}, {0, 0}), ErrorKind::kInvalidArgument,
                 "more than 2^63 - 1 bytes");
  expect_refused(one(0, {kLargest, 0, kLargest}, {1, 1, 1}), ErrorKind::kInvalidArgument,
                 "more than 2^63 - 1 bytes");
  // Elements seen many times over would make a small file a large copy.
  expect_refused(one(0, {1 << 30, 12}, {0, 1}), ErrorKind::kUnsupported,
                 "repeats the 12 elements of its storage");
}

TEST(TorchArchive, StoragesHaveTheSizeThatThePickleSays) {
  expect_refused(torch_bytes(kPickle, {pattern(23), pattern(8)}), ErrorKind::kDataLoss,
                 "tensor 'a': storage '0' should hold 6 elements of float32, but has 23 bytes");
  expect_refused(torch_bytes(kPickle, {pattern(28), pattern(8)}), ErrorKind::kDataLoss, "but has 28 bytes");
  expect_refused(torch_bytes(kPickle, {pattern(24)}), ErrorKind::kDataLoss,
                 "tensor 'b' is in storage '1', which the file lacks");
  expect_refused(torch_bytes(pickle::dict({{"w", pickle::vector("FloatStorage", "../data.pkl", 1)}}), {}),
                 ErrorKind::kDataLoss, "which the file lacks");
  expect_refused(
      torch_bytes(pickle::dict({{"w", pickle::vector("DoubleStorage", "0", INT64_MAX)}}), {pattern(8)}),
      ErrorKind::kDataLoss, "should hold 9223372036854775807 elements");
  expect_refused(torch_bytes(pickle::dict({{"v", pickle::vector("FloatStorage", "0", 2)},
                                           {"w", pickle::vector("HalfStorage", "0", 4)}}),
                             {pattern(8)}),
                 ErrorKind::kInvalidArgument, "storage '0' holds float16, but float32 for another tensor");
}

TEST(TorchArchive, OtherFormatsAreNamed) {
  expect_refused("", ErrorKind::kDataLoss, "is empty");
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ErrorKind::kDataLoss,
                 "git lfs pull");
  // What torch.save wrote before 1.6 begins with a pickled magic number.
  expect_refused("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."s,
                 ErrorKind::kUnsupported,
                 "old format of torch.save (before 1.6); load it with torch and save it again");
  expect_refused("<!DOCTYPE html>", ErrorKind::kInvalidArgument, "it begins with '<!DOCTYP'");
  expect_refused(zip_of({{"word/document.xml", "<w/>"}}), ErrorKind::kInvalidArgument, "it has no data.pkl");
  auto parts = sound_parts();
  parts.push_back({"archive/constants.pkl", "\x80\x02)."});
  expect_refused(zip_of(parts), ErrorKind::kUnsupported, "is a TorchScript archive");
  parts.back() = {"archive/code/__torch__.py", ""};
  expect_refused(zip_of(parts), ErrorKind::kUnsupported, "is a TorchScript archive");
  parts.back() = {"other/data.pkl", kPickle};
  expect_refused(zip_of(parts), ErrorKind::kInvalidArgument, "has two pickles");
  parts = sound_parts();
  parts[1].data = "big";
  expect_refused(zip_of(parts), ErrorKind::kUnsupported, "its byteorder is 'big'");
  parts = sound_parts();
  parts[2].method = 8;
  expect_refused(zip_of(parts), ErrorKind::kUnsupported, "entry 'archive/data/0' is compressed (method 8)");
  for (const std::uint16_t flag : {0x1, 0x40, 0x2000}) {
    parts = sound_parts();
    parts[3].flags |= flag;
    expect_refused(zip_of(parts), ErrorKind::kUnsupported, "entry 'archive/data/1' is encrypted");
  }
  parts = sound_parts();
  parts.push_back(parts[2]);
  expect_refused(zip_of(parts), ErrorKind::kDataLoss, "entry 'archive/data/0' is there twice");
  parts = sound_parts();
  parts[0].data =
      pickle::dict({{"w", pickle::name("os", "system") + pickle::tuple({pickle::text("true")}) + "R"}});
  expect_refused(zip_of(parts), ErrorKind::kUnsupported, "refers to 'os.system'; only tensors are read");
}

TEST(TorchArchive, TruncationAtEveryByteIsRefused) {
  for (const ZipStyle& style : {ZipStyle{}, ZipStyle{.end64 = false}, ZipStyle{.fields64 = true}}) {
    const std::string sound = zip_of(sound_parts(), style);
    for (std::size_t size = 0; size < sound.size(); ++size) {
      const Caught error = refused(sound.substr(0, size));
      ASSERT_TRUE(error.kind.has_value()) << size;
      EXPECT_EQ(*error.kind, size < 4 && size > 0 ? ErrorKind::kInvalidArgument : ErrorKind::kDataLoss)
          << error.message;
    }
    EXPECT_TRUE(refused(sound + "x").kind.has_value());
  }
}

TEST(TorchArchive, EveryDamagedByteIsSafe) {
  const std::string sound = zip_of(sound_parts(), {.fields64 = true});
  int found = 0;
  for (std::size_t i = 0; i < sound.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xff}) {
      std::string damaged = sound;
      damaged[i] = static_cast<char>(damaged[i] ^ change);
      const Caught error = refused(damaged);
      if (!error.kind) continue;  // data, padding, or a field that nobody reads
      ++found;
      EXPECT_EQ(core::exit_code(*error.kind), 2) << error.message;
      EXPECT_THAT(error.message, StartsWith("model.bin: "));
    }
  }
  EXPECT_GE(found, 1000);
}

/// The offset of the directory entry of `name`.
std::size_t central(const std::string& bytes, const std::string& name) { return bytes.rfind(name) - 46; }

template <typename Integer>
void patch(std::string& bytes, std::size_t at, Integer value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

TEST(ZipDirectory, EntriesMayNotOverlap) {
  // Both name the same bytes: the trick of zip bombs.
  std::string bytes = zip_of(sound_parts());
  std::uint32_t first = 0;
  std::memcpy(&first, bytes.data() + central(bytes, "archive/data/0") + 42, 4);
  patch(bytes, central(bytes, "archive/data/1") + 42, first);
  expect_refused(bytes, ErrorKind::kDataLoss, "inside entry 'archive/data/");

  // The first entry reaches into the second.
  bytes = zip_of(sound_parts());
  patch(bytes, central(bytes, "archive/data/0") + 20, std::uint32_t{60});
  patch(bytes, central(bytes, "archive/data/0") + 24, std::uint32_t{60});
  expect_refused(bytes, ErrorKind::kDataLoss, "entry 'archive/data/1' begins at ");
}

TEST(ZipDirectory, ExtentsAreChecked) {
  const std::string sound = zip_of(sound_parts(), {.end64 = false});
  const std::size_t a = central(sound, "archive/data/0"), end = sound.size() - 22;
  const struct {
    std::size_t at;
    std::uint32_t value;
    const char* part;
  } cases[] = {{a + 24, 25, "is stored in 24 bytes, but has 25"},
               {a + 42, 0x7fffffff, "has no header at 2147483647"},
               {a + 42, 1, "begins at 1, inside entry"},
               {a + 42, 0xffffffff, "has no header at 4294967295"},
               {end + 12, 0xfffffffe, "zip directory should be 4294967294 bytes"},
               {end + 12, 100, "zip directory claims 5 entries in 100 bytes"},
               {end + 16, 0xfffffffe, "damaged or truncated"},
               {end + 16, 0, "zip directory entry"},
               {end + 8, 0xffffffff, "zip directory claims 65535 entries"},
               {end + 8, 0x00040004, "but its 4 entries take"},
               {end + 4, 1, "in several parts"}};
  for (const auto& [at, value, part] : cases) {
    std::string bytes = sound;
    patch(bytes, at, value);
    const Caught error = refused(bytes);
    EXPECT_THAT(error.message, HasSubstr(part));
    EXPECT_TRUE(error.kind == ErrorKind::kDataLoss || error.kind == ErrorKind::kUnsupported);
  }
  std::string bytes = sound;  // both sizes
  patch(bytes, a + 20, std::uint32_t{0x7fffffff});
  patch(bytes, a + 24, std::uint32_t{0x7fffffff});
  expect_refused(bytes, ErrorKind::kDataLoss, "entry 'archive/data/0' should have 2147483647 bytes");
  bytes = sound;  // another name in the local header
  bytes[bytes.find("archive/data/0")] = 'b';
  expect_refused(bytes, ErrorKind::kDataLoss, "entry 'archive/data/0' has another name in its own header");

  const std::string large = zip_of(sound_parts(), {.fields64 = true});
  const std::size_t field = large.rfind("archive/data/0") + 14;
  for (const std::uint64_t value : {std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    bytes = large;  // sizes and offset in turn
    patch(bytes, field + 4, value);
    patch(bytes, field + 12, value);
    expect_refused(bytes, ErrorKind::kDataLoss, "entry 'archive/data/0' should have");
    bytes = large;
    patch(bytes, field + 20, value);
    expect_refused(bytes, ErrorKind::kDataLoss, "entry 'archive/data/0' has no header");
    const std::size_t end64 = large.size() - 22 - 20 - 56;
    for (const std::size_t at : {32, 40, 48}) {
      bytes = large;
      patch(bytes, end64 + at, value);
      EXPECT_EQ(refused(bytes).kind, ErrorKind::kDataLoss);
    }
    bytes = large;
    patch(bytes, large.size() - 22 - 20 + 8, value);
    expect_refused(bytes, ErrorKind::kDataLoss, "has no zip64 end record");
  }
}

TEST(TorchFile, StoragesBeyondFourGibibytes) {
  // A file with a hole: two storages of 3 GiB that take no space on disk, and one behind them.
  const testing::TemporaryDirectory directory;
  const auto path = directory.path() / "pytorch_model.bin";
  constexpr std::uint64_t kLarge = std::uint64_t{3} << 30;
  const std::string pickle = pickle::dict({{"x", pickle::vector("ByteStorage", "0", kLarge)},
                                           {"y", pickle::vector("ByteStorage", "1", kLarge)},
                                           {"z", pickle::vector("ByteStorage", "2", 10)}});
  // Built with empty storages, then taken apart and put where the sizes are as in a true file.
  const std::vector<ZipPart> parts = torch_parts(pickle, {"", "", pattern(10)});
  std::string directory_bytes;
  std::uint64_t at = 0;
  const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  const auto write = [&](const std::string& bytes) {
    EXPECT_EQ(::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
    at += bytes.size();
  };
  for (const ZipPart& part : parts) {
    const std::string whole = zip_of({part}, {.fields64 = true});
    const std::uint64_t size = part.data.empty() ? kLarge : part.data.size();
    std::string entry = whole.substr(whole.find("PK\1\2"), 46 + part.name.size() + 28);
    patch(entry, 46 + part.name.size() + 4, size);
    patch(entry, 46 + part.name.size() + 12, size);
    patch(entry, 46 + part.name.size() + 20, at);
    directory_bytes += entry;
    write(whole.substr(0, 30 + part.name.size() + 7) + part.data);
    if (part.data.empty()) at += kLarge;
  }
  const std::uint64_t start = at, count = parts.size();
  std::string end = zip_of(parts, {.fields64 = true});
  end = end.substr(end.size() - 22 - 20 - 56);
  patch(end, 32, count);
  patch(end, 40, std::uint64_t{directory_bytes.size()});
  patch(end, 48, start);
  patch(end, 56 + 8, start + directory_bytes.size());
  write(directory_bytes + end);
  ::close(file);

  const TorchFile opened(path);
  ASSERT_EQ(opened.tensors().size(), 3u);
  EXPECT_EQ(opened.tensors()[1].data.size(), kLarge);
  EXPECT_EQ(opened.tensors()[1].data.back(), std::byte{0});
  EXPECT_EQ(bytes_text(opened.tensors()[2].data), pattern(10));
}

}  // namespace
}  // namespace peregrine::weights
