// SPDX-License-Identifier: Apache-2.0
// .bin files as a model's checkpoint: preference, shards, tensors that need a copy, types that nobody asks
// for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "fixtures.h"
#include "support/test_data.h"
#include "torch_fixtures.h"
#include "weights/checkpoint.h"
#include "weights/checkpoint_source.h"
#include "weights/safetensors_writer.h"
#include "weights/strided_copy.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TorchCheckpoint : public ::testing::Test {
 protected:
  std::filesystem::path path() const { return directory_.path(); }
  void write(const std::string& name, const std::string& bytes) { write_text(path() / name, bytes); }
  Caught refused() const {
    return caught([&] { Checkpoint::open(path()); });
  }

  const testing::TemporaryDirectory directory_;
};

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// 0, 1, 2, ... in storage "0".
std::string counting(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return floats(values);
}

std::string named(const std::string& name, const std::string& type, std::int64_t count) {
  return pickle::dict({{name, pickle::vector(type, "0", count)}});
}

TEST_F(TorchCheckpoint, TensorsLieInTheMappedFile) {
  const std::string whole = pickle::storage("FloatStorage", "0", 12);
  write("pytorch_model.bin", torch_bytes(pickle::dict({{"embed", pickle::tensor(whole, 0, {4, 3}, {3, 1})},
                                                       {"head", pickle::tensor(whole, 0, {4, 3}, {3, 1})},
                                                       {"tail", pickle::tensor(whole, 6, {2, 3}, {3, 1})},
                                                       {"empty", pickle::tensor(whole, 0, {0, 3}, {3, 1})}}),
                                         {counting(12)}));
  const Checkpoint checkpoint = Checkpoint::open(path());
  EXPECT_THAT(checkpoint.names(), ElementsAre("embed", "empty", "head", "tail"));
  const StoredTensor& embed = *checkpoint.find("embed");
  EXPECT_EQ(embed.copy, nullptr);
  EXPECT_EQ(*embed.file, path() / "pytorch_model.bin");
  EXPECT_EQ(bytes_text(embed.data), counting(12));
  // Tied tensors share their bytes.
  EXPECT_EQ(checkpoint.find("head")->data.data(), embed.data.data());
  EXPECT_EQ(checkpoint.find("tail")->data.data(), embed.data.data() + 24);
  EXPECT_TRUE(checkpoint.find("empty")->data.empty());
  EXPECT_EQ(checkpoint.total_bytes(), 48u + 48 + 24);
  checkpoint.will_need(embed);
  checkpoint.release(embed);
  EXPECT_EQ(bytes_text(embed.data), counting(12));
}

TEST_F(TorchCheckpoint, TransposedTensorsAreCopiedWhenAskedFor) {
  write("pytorch_model.bin",
        torch_bytes(pickle::dict(
                        {{"w", pickle::tensor(pickle::storage("FloatStorage", "0", 14), 1, {3, 4}, {1, 3})}}),
                    {counting(14)}));
  const Checkpoint checkpoint = Checkpoint::open(path());
  const StoredTensor* described = checkpoint.describe("w");
  ASSERT_NE(described->copy, nullptr);
  EXPECT_TRUE(described->data.empty());
  EXPECT_EQ(checkpoint.total_bytes(), 48u);
  const std::array<std::int64_t, 2> shape = {3, 4};
  EXPECT_TRUE(checkpoint.check("w", shape).data.empty());
  checkpoint.will_need(*described);

  const std::string expected = floats({1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12});
  for (int round = 0; round < 2; ++round) {
    const StoredTensor& tensor = checkpoint.require("w", shape);
    EXPECT_EQ(&tensor, described);
    EXPECT_EQ(bytes_text(tensor.data), expected);
    EXPECT_EQ(checkpoint.find("w")->data.data(), tensor.data.data());  // one copy
    checkpoint.release(tensor);
    EXPECT_TRUE(described->data.empty());
  }

  CheckpointSource source(checkpoint, "model.");
  EXPECT_EQ(source.check("model.w", shape), DType::kF32);
  EXPECT_TRUE(described->data.empty());  // check() makes no data
  source.will_need("model.w");
  const StoredTensor& tensor = source.require("model.w", shape);
  EXPECT_EQ(bytes_text(tensor.data), expected);
  source.release(tensor);
}

TEST_F(TorchCheckpoint, StridedCopiesOfEveryElementSize) {
  // A cube of 3 x 4 x 5 with its dimensions in every order, and a slice.
  const auto check = [](std::size_t element, std::vector<std::int64_t> shape,
                        std::vector<std::int64_t> strides) {
    const std::string source = pattern(60 * element);
    std::string expected;
    for (std::int64_t i = 0; i < shape[0]; ++i) {
      for (std::int64_t j = 0; j < shape[1]; ++j) {
        for (std::int64_t k = 0; k < shape[2]; ++k) {
          const auto at = static_cast<std::size_t>(i * strides[0] + j * strides[1] + k * strides[2]);
          expected += source.substr(at * element, element);
        }
      }
    }
    std::string target(expected.size(), '\0');
    copy_strided(as_bytes(source), shape, strides, element,
                 {reinterpret_cast<std::byte*>(target.data()), target.size()});
    EXPECT_EQ(target, expected) << element << " bytes, " << shape_text(shape);
  };
  for (const std::size_t element : {1, 2, 4, 8}) {
    check(element, {3, 4, 5}, {20, 5, 1});
    check(element, {4, 3, 5}, {5, 20, 1});
    check(element, {5, 4, 3}, {1, 5, 20});
    check(element, {3, 5, 4}, {20, 1, 5});
    check(element, {2, 2, 2}, {40, 10, 3});
    check(element, {1, 60, 1}, {7, 1, 9});
    check(element, {3, 1, 4}, {20, 99, 0});
  }
}

TEST_F(TorchCheckpoint, OtherTypesMayBeThereUnlessAskedFor) {
  write("pytorch_model.bin",
        torch_bytes(pickle::dict({{"attn.bias", pickle::vector("BoolStorage", "0", 4)},
                                  {"inv_freq", pickle::vector("DoubleStorage", "1", 2)},
                                  {"position_ids", pickle::vector("LongStorage", "2", 2)},
                                  {"w", pickle::vector("BFloat16Storage", "3", 2)},
                                  {"step", "K\1"}}),
                    {pattern(4), pattern(16), pattern(16), pattern(4)}));
  const Checkpoint checkpoint = Checkpoint::open(path());
  EXPECT_EQ(checkpoint.find("position_ids")->dtype, DType::kI64);
  EXPECT_EQ(checkpoint.find("step"), nullptr);
  CheckpointSource source(checkpoint);
  const std::array<std::int64_t, 1> shape = {2};
  EXPECT_EQ(source.check("w", shape), DType::kBF16);
  const Caught error = caught([&] { source.check("inv_freq", shape); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, AllOf(HasSubstr("pytorch_model.bin: tensor 'inv_freq'"), HasSubstr("float64")));
}

TEST_F(TorchCheckpoint, ShardsAreOneSetOfNames) {
  write("pytorch_model-00001-of-00002.bin", torch_bytes(named("a", "FloatStorage", 2), {counting(2)}));
  write("pytorch_model-00002-of-00002.bin", torch_bytes(named("b", "FloatStorage", 3), {counting(3)}));
  const auto index = [&](const std::string& map) {
    write("pytorch_model.bin.index.json", R"({"weight_map":{)" + map + "}}");
  };
  index(R"("a":"pytorch_model-00001-of-00002.bin","b":"pytorch_model-00002-of-00002.bin")");
  const Checkpoint checkpoint = Checkpoint::open(path());
  EXPECT_THAT(checkpoint.names(), ElementsAre("a", "b"));
  EXPECT_EQ(*checkpoint.find("b")->file, path() / "pytorch_model-00002-of-00002.bin");
  EXPECT_THAT(caught([&] { checkpoint.require("c", std::array<std::int64_t, 1>{2}); }).message,
              HasSubstr("pytorch_model.bin.index.json: tensor 'c' of shape [2] is missing"));

  index(R"("a":"pytorch_model-00002-of-00002.bin")");
  EXPECT_THAT(refused().message, HasSubstr("no shard has it"));
  index(R"("a":"pytorch_model-00001-of-00002.bin","b":"pytorch_model-00001-of-00002.bin")");
  EXPECT_THAT(refused().message, HasSubstr("tensor 'b' should be in shard"));
  index(R"("a":"weights.safetensors")");
  EXPECT_THAT(refused().message, HasSubstr("must end in .bin"));
  index(R"("a":"pytorch_model-00003-of-00002.bin")");
  EXPECT_EQ(refused().kind, ErrorKind::kNotFound);
}

TEST_F(TorchCheckpoint, SafetensorsArePreferred) {
  const auto names = [&] {
    const Checkpoint checkpoint = Checkpoint::open(path());
    return std::string(checkpoint.names().at(0));
  };
  write("shard-1.bin", torch_bytes(named("bin_index", "FloatStorage", 1), {counting(1)}));
  write("pytorch_model.bin.index.json", R"({"weight_map":{"bin_index":"shard-1.bin"}})");
  EXPECT_EQ(names(), "bin_index");
  write("pytorch_model.bin", torch_bytes(named("bin", "FloatStorage", 1), {counting(1)}));
  EXPECT_EQ(names(), "bin");
  const std::string data = counting(1);
  write_safetensors(path() / "shard-1.safetensors",
                    {{{"safetensors_index", DType::kF32, {1}, as_bytes(data)}}});
  write("model.safetensors.index.json", R"({"weight_map":{"safetensors_index":"shard-1.safetensors"}})");
  EXPECT_EQ(names(), "safetensors_index");
  write_safetensors(path() / "model.safetensors", {{{"safetensors", DType::kF32, {1}, as_bytes(data)}}});
  EXPECT_EQ(names(), "safetensors");
  // A .bin beside it is not even looked at.
  write("pytorch_model.bin", "\x80\x02");
  EXPECT_EQ(names(), "safetensors");
  // But never a way round safetensors that are damaged.
  write("pytorch_model.bin", torch_bytes(named("bin", "FloatStorage", 1), {counting(1)}));
  write("model.safetensors", "");
  EXPECT_EQ(refused().kind, ErrorKind::kDataLoss);
}

TEST_F(TorchCheckpoint, ArePicklesWhichMayBeForbidden) {
  const Checkpoint::Options forbidden{.allow_pickle = false};
  const auto refusal = [&] { return caught([&] { Checkpoint::open(path(), forbidden); }); };
  write("shard-1.bin", torch_bytes(named("a", "FloatStorage", 1), {counting(1)}));
  write("pytorch_model.bin.index.json", R"({"weight_map":{"a":"shard-1.bin"}})");
  EXPECT_EQ(refusal().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(refusal().message,
              AllOf(HasSubstr("pytorch_model.bin.index.json"), HasSubstr("option.allow_pickle=false")));
  // Not even a byte of it is read.
  write("pytorch_model.bin", "no pickle at all");
  EXPECT_THAT(refusal().message, AllOf(HasSubstr("pytorch_model.bin: "),
                                       HasSubstr("option.allow_pickle=false"), HasSubstr("safetensors")));
  const std::string data = counting(1);
  write_safetensors(path() / "model.safetensors", {{{"b", DType::kF32, {1}, as_bytes(data)}}});
  EXPECT_THAT(Checkpoint::open(path(), forbidden).names(), ElementsAre("b"));
}

TEST_F(TorchCheckpoint, ErrorsNameTheFile) {
  write("pytorch_model.bin", "\x80\x02\x8a\x0a");
  EXPECT_THAT(refused().message, HasSubstr((path() / "pytorch_model.bin: is in the old format").string()));
  write("pytorch_model.bin", torch_bytes(pickle::dict({{"w", pickle::name("os", "system")}}), {}));
  EXPECT_THAT(refused().message, HasSubstr((path() / "pytorch_model.bin: data.pkl: byte ").string()));
}

}  // namespace
}  // namespace peregrine::weights
