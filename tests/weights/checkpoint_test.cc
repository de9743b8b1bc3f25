// SPDX-License-Identifier: Apache-2.0
#include "weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "fixtures.h"
#include "support/test_data.h"
#include "weights/safetensors_writer.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using peregrine::testing::TemporaryDirectory;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A directory with three tensors a, b, c in two shards and their index.
class Sharded : public ::testing::Test {
 protected:
  void SetUp() override {
    write_shard("one.safetensors",
                {{"a", DType::kF32, {2}, as_bytes(a_)}, {"c", DType::kI64, {1}, as_bytes(c_)}});
    write_shard("two.safetensors", {{"b", DType::kBF16, {3, 2}, as_bytes(b_)}});
    write_index(R"("a":"one.safetensors","b":"two.safetensors","c":"one.safetensors")");
  }

  void write_shard(const char* name, std::vector<TensorToWrite> tensors) {
    write_safetensors(path() / name, tensors);
  }
  void write_index(const std::string& map) {
    write_text(path() / "model.safetensors.index.json",
               R"({"metadata":{"total_size":28},"weight_map":{)" + map + "}}");
  }
  std::filesystem::path path() const { return directory_.path(); }
  Caught refused() const {
    return caught([&] { Checkpoint::open(path()); });
  }

  const std::string a_ = pattern(8, 1), b_ = pattern(12, 2), c_ = pattern(8, 3);
  const TemporaryDirectory directory_;
};

TEST_F(Sharded, IsOneSetOfNames) {
  Checkpoint opened = Checkpoint::open(path());
  const StoredTensor* before = opened.find("b");
  const Checkpoint checkpoint = std::move(opened);
  EXPECT_EQ(checkpoint.find("b"), before);  // moving leaves tensors in place
  EXPECT_THAT(checkpoint.names(), ElementsAre("a", "b", "c"));
  EXPECT_EQ(checkpoint.total_bytes(), 28u);
  EXPECT_EQ(checkpoint.directory(), path());
  EXPECT_EQ(checkpoint.find("d"), nullptr);
  EXPECT_EQ(checkpoint.find(""), nullptr);
  const StoredTensor& b = checkpoint.require("b", std::vector<std::int64_t>{3, 2});
  EXPECT_EQ(b.dtype, DType::kBF16);
  EXPECT_EQ(bytes_text(b.data), b_);
  EXPECT_EQ(*b.file, path() / "two.safetensors");
  EXPECT_EQ(bytes_text(checkpoint.find("a")->data), a_);
  EXPECT_EQ(bytes_text(checkpoint.find("c")->data), c_);  // int64 is readable; using code decides
  EXPECT_EQ(checkpoint.find("c")->dtype, DType::kI64);
}

TEST_F(Sharded, RequireNamesTensorExpectedAndFound) {
  const Checkpoint checkpoint = Checkpoint::open(path());
  const auto require = [&](std::string_view name, std::vector<std::int64_t> shape) {
    return caught([&] { checkpoint.require(name, shape); });
  };
  const Caught missing = require("lm_head.weight", {100, 50});
  EXPECT_EQ(missing.kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.message, AllOf(HasSubstr(path().string()),
                                     HasSubstr("tensor 'lm_head.weight' of shape [100, 50] is missing")));
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{2, 3}, {3, 3}, {6}, {3}, {3, 2, 1}, {1, 3, 2}, {}}) {
    const Caught error = require("b", shape);
    EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.message,
                AllOf(HasSubstr("two.safetensors: tensor 'b' must have shape " + shape_text(shape)),
                      HasSubstr("found [3, 2] (BF16)")));
  }
}

TEST_F(Sharded, MissingAndDamagedShardsAreNamed) {
  std::filesystem::remove(path() / "two.safetensors");
  Caught error = refused();
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_THAT(error.message,
              HasSubstr("model.safetensors.index.json: shard 'two.safetensors' is not in the directory"));

  std::filesystem::create_directory(path() / "two.safetensors");
  EXPECT_THAT(refused().message, HasSubstr("two.safetensors is not a regular file"));
  std::filesystem::remove(path() / "two.safetensors");

  std::filesystem::create_symlink("nowhere", path() / "two.safetensors");
  EXPECT_THAT(refused().message, HasSubstr("two.safetensors: No such file"));
  std::filesystem::remove(path() / "two.safetensors");

  write_text(path() / "two.safetensors", "");
  EXPECT_THAT(refused().message, HasSubstr("two.safetensors: has 0 bytes"));

  write_shard("two.safetensors", {{"b", DType::kBF16, {3, 2}, as_bytes(b_)}});
  std::filesystem::resize_file(path() / "two.safetensors",
                               std::filesystem::file_size(path() / "two.safetensors") - 1);
  error = refused();
  EXPECT_EQ(error.kind, ErrorKind::kDataLoss);
  EXPECT_THAT(
      error.message,
      HasSubstr("two.safetensors: tensor 'b' needs data bytes 0 to 12, but the file has 11 bytes of data"));
}

TEST_F(Sharded, IndexAndShardsMustAgree) {
  write_index(R"("a":"one.safetensors","b":"two.safetensors","x":"two.safetensors")");
  EXPECT_THAT(refused().message,
              HasSubstr("tensor 'x' should be in shard 'two.safetensors', but no shard has it"));
  write_index(R"("a":"two.safetensors","b":"two.safetensors","c":"one.safetensors")");
  EXPECT_THAT(refused().message,
              HasSubstr("tensor 'a' should be in shard 'two.safetensors', but is in 'one.safetensors'"));
  write_shard("two.safetensors",
              {{"b", DType::kBF16, {3, 2}, as_bytes(b_)}, {"a", DType::kF32, {2}, as_bytes(a_)}});
  const Caught error = refused();
  EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.message, AllOf(HasSubstr("tensor 'a' is in two shards"), HasSubstr("'one.safetensors'"),
                                   HasSubstr("'two.safetensors'")));
  write_index(R"("a":"../one.safetensors")");
  EXPECT_THAT(refused().message, HasSubstr("shard '../one.safetensors' must be a plain file name"));
  write_index(std::string(R"("a":")") + std::string(5000, 'x') + R"(.safetensors")");
  EXPECT_EQ(refused().kind, ErrorKind::kNotFound);
}

TEST_F(Sharded, TensorsThatOnlyShardsNameAreThere) {
  write_index(R"("a":"one.safetensors","b":"two.safetensors")");
  EXPECT_THAT(Checkpoint::open(path()).names(), ElementsAre("a", "b", "c"));
}

TEST_F(Sharded, TheSingleFileCountsWhereBothExist) {
  write_shard("model.safetensors", {{"z", DType::kF32, {2}, as_bytes(a_)}});
  EXPECT_THAT(Checkpoint::open(path()).names(), ElementsAre("z"));
}

TEST(CheckpointDirectory, WithoutWeightsSaysWhatIsThere) {
  const TemporaryDirectory directory;
  const auto refused = [&] { return caught([&] { Checkpoint::open(directory.path()); }); };
  Caught error = refused();
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_THAT(error.message,
              HasSubstr("has none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
                        "pytorch_model.bin.index.json; there are no other weights"));

  write_text(directory.path() / "model-00001-of-00002.safetensors", "");
  write_text(directory.path() / "training_args.bin", "");
  error = refused();
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("found instead: model-00001-of-00002.safetensors, training_args.bin"));

  for (int i = 1; i <= 7; ++i) write_text(directory.path() / fmt::format("pytorch_model-{}-of-7.bin", i), "");
  error = refused();
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_THAT(error.message, AllOf(HasSubstr("pytorch_model-1-of-7.bin, "), HasSubstr("and 4 more")));

  error = caught([&] { Checkpoint::open(directory.path() / "no"); });
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("/no does not exist or is not a directory"));
  EXPECT_EQ(caught([&] { Checkpoint::open(directory.path() / "training_args.bin"); }).kind,
            ErrorKind::kNotFound);
}

/// Resident bytes of the mapping that holds `address`.
std::uint64_t resident_bytes(const std::byte* address) {
  std::ifstream in("/proc/self/smaps");
  std::string line;
  bool inside = false;
  while (std::getline(in, line)) {
    std::uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      const auto place = reinterpret_cast<std::uintptr_t>(address);
      inside = place >= begin && place < end;
    }
    std::uint64_t kilobytes = 0;
    if (inside && std::sscanf(line.c_str(), "Rss: %lu kB", &kilobytes) == 1) return kilobytes * 1024;
  }
  return 0;
}

std::uint64_t sum(std::span<const std::byte> bytes) {
  std::uint64_t out = 0;
  for (const std::byte byte : bytes) out += std::to_integer<std::uint64_t>(byte);
  return out;
}

TEST(CheckpointMemory, ReleasedTensorsLeaveResidentMemory) {
  const TemporaryDirectory directory;
  constexpr std::int64_t kLarge = 8 << 20;
  const std::string data = pattern(kLarge + 5);
  std::vector<TensorToWrite> tensors;
  for (const char* name : {"a", "b", "c"})
    tensors.push_back({name, DType::kU8, {kLarge + 5}, as_bytes(data)});
  tensors.push_back({"empty", DType::kU8, {0}, {}});
  write_safetensors(directory.path() / "model.safetensors", tensors);

  const Checkpoint checkpoint = Checkpoint::open(directory.path());
  const StoredTensor &a = *checkpoint.find("a"), &b = *checkpoint.find("b"), &c = *checkpoint.find("c");
  // Opening reads the header only. (The system may map up to a huge page, 2 MiB, around a byte that is read.)
  EXPECT_LT(resident_bytes(a.data.data()), std::uint64_t{kLarge} / 2);
  std::uint64_t peak = 0;
  const std::uint64_t expected = sum(as_bytes(data).first(kLarge + 5));
  for (const StoredTensor* tensor : {&a, &b, &c}) {
    checkpoint.will_need(*tensor);
    EXPECT_EQ(sum(tensor->data), expected);
    peak = std::max(peak, resident_bytes(a.data.data()));
    checkpoint.release(*tensor);
  }
  EXPECT_GE(peak, std::uint64_t{kLarge});
  EXPECT_LT(peak, std::uint64_t{kLarge} * 2);  // one tensor at a time, not all three
  EXPECT_LT(resident_bytes(a.data.data()), std::uint64_t{kLarge} / 2);
  EXPECT_EQ(sum(b.data), expected);  // still readable
  checkpoint.will_need(*checkpoint.find("empty"));
  checkpoint.release(*checkpoint.find("empty"));
}

TEST(CheckpointMemory, ReleasingANeighbourDoesNotDisturbAReader) {
  const TemporaryDirectory directory;
  const std::string data = pattern(9001);
  std::vector<TensorToWrite> tensors;
  for (const char* name : {"a", "b"}) tensors.push_back({name, DType::kU8, {9001}, as_bytes(data)});
  write_safetensors(directory.path() / "model.safetensors", tensors);
  const Checkpoint checkpoint = Checkpoint::open(directory.path());
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) checkpoint.release(*checkpoint.find("a"));
  });
  for (int i = 0; i < 200; ++i) EXPECT_EQ(sum(checkpoint.find("b")->data), sum(as_bytes(data)));
  stop = true;
  other.join();
}

}  // namespace
}  // namespace peregrine::weights
