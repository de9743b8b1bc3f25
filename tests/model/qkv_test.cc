// SPDX-License-Identifier: Apache-2.0
// Where the rows of fused slots come from, and that loading takes exactly those: weights whose elements name
// their row in the checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "model/decoder_weights.h"
#include "model/support.h"
#include "weights/tensor_source.h"

namespace peregrine::model {
namespace {

using ::testing::ElementsAreArray;

/// Tensors whose every element is the number of its row.
class RowNumbers : public weights::TensorSource {
 public:
  core::DType check(std::string_view, std::span<const std::int64_t>) override { return core::DType::kF32; }

  const weights::StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) override {
    auto& entry = tensors_[std::string(name)];
    const std::int64_t width = shape.size() == 2 ? shape[1] : 1;
    entry.numbers.clear();
    for (std::int64_t row = 0; row < shape[0]; ++row) {
      entry.numbers.insert(entry.numbers.end(), static_cast<std::size_t>(width), static_cast<float>(row));
    }
    entry.tensor = {std::string(name),
                    core::DType::kF32,
                    {shape.begin(), shape.end()},
                    std::as_bytes(std::span(entry.numbers)),
                    nullptr};
    return entry.tensor;
  }

  void will_need(std::string_view name) override { announced.insert(std::string(name)); }
  void release(const weights::StoredTensor& tensor) override { ++released[tensor.name]; }

  std::set<std::string> announced;
  std::map<std::string, int> released;

 private:
  struct Entry {
    weights::StoredTensor tensor;
    std::vector<float> numbers;
  };
  std::map<std::string, Entry> tensors_;
};

/// Takes packed weights apart: remembers of each packed matrix the first element of every row.
class SpyDevice : public ops::Device {
 public:
  struct Packed : ops::Weight {
    Packed(std::int64_t rows, std::int64_t cols, core::DType dtype, ops::WeightUse use)
        : Weight(rows, cols, dtype, use) {}
    std::size_t bytes() const override { return 0; }
    std::vector<float> first_elements;
  };

  explicit SpyDevice(std::unique_ptr<ops::Device> real) : real_(std::move(real)) {}
  std::string description() const override { return "spy"; }
  ops::Buffer allocate(std::size_t bytes) override { return real_->allocate(bytes); }
  std::unique_ptr<ops::Stream> create_stream() override { return real_->create_stream(); }
  std::unique_ptr<ops::Weight> pack(std::span<const ops::HostMatrix> parts, core::DType dtype,
                                    ops::WeightUse use) override {
    std::vector<float> rows;
    for (const auto& part : parts) {
      for (std::int64_t r = 0; r < part.rows; ++r) {
        float value = 0;
        std::memcpy(&value, part.data + r * part.row_stride * 4, 4);
        rows.push_back(value);
        float last = 0;
        std::memcpy(&last, part.data + (r * part.row_stride + (part.cols - 1) * part.col_stride) * 4, 4);
        EXPECT_EQ(value, last);
      }
    }
    auto out = std::make_unique<Packed>(static_cast<std::int64_t>(rows.size()), parts[0].cols, dtype, use);
    out->first_elements = std::move(rows);
    return out;
  }
  std::unique_ptr<ops::KvCache> create_kv_cache(const ops::KvCacheSpec& spec) override {
    return real_->create_kv_cache(spec);
  }
  std::size_t kv_block_bytes(const ops::KvCacheSpec& spec) const override {
    return real_->kv_block_bytes(spec);
  }
  bool supports_compute(core::DType) const override { return true; }
  std::string linear_kernel(const ops::Weight&, core::DType) const override { return "spy"; }

 private:
  void free(ops::DeviceAddress, std::size_t) override {}
  std::unique_ptr<ops::Device> real_;
};

std::vector<float> range(int begin, int end) {
  std::vector<float> out;
  for (int i = begin; i < end; ++i) out.push_back(static_cast<float>(i));
  return out;
}

std::vector<float> concatenate(std::initializer_list<std::vector<float>> parts) {
  std::vector<float> out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

class QkvRows : public ::testing::Test {
 protected:
  /// Rows of the fused query-key-value slot of layer 0, as loading takes them; the bias must be cut alike.
  std::vector<float> load(const char* text) {
    const DecoderConfig config = read_config(text);
    SpyDevice device(ops::create_device("reference", {}));
    const auto weights =
        load_weights(config, find_family("", config.family), source_, device, {core::DType::kF32}, {});
    const auto& qkv = weights.layers[0].qkv;
    const auto& packed = dynamic_cast<const SpyDevice::Packed&>(*qkv.weight);
    if (config.qkv_bias) expect_bias(device, qkv.bias, packed.first_elements);
    use_of_embedding_ = weights.embedding->use();
    has_head_ = weights.head.weight != nullptr;
    return packed.first_elements;
  }

  static void expect_bias(ops::Device& device, const Vector& bias, const std::vector<float>& rows) {
    std::vector<float> found(static_cast<std::size_t>(bias.size));
    const auto stream = device.create_stream();
    stream->download(found.data(), bias.buffer.address(), found.size() * 4);
    stream->wait(stream->record());
    EXPECT_EQ(found, rows);
  }

  RowNumbers source_;
  ops::WeightUse use_of_embedding_ = ops::WeightUse::kLinear;
  bool has_head_ = false;
};

TEST_F(QkvRows, FalconMultiQueryIsStoredInOrder) {
  const auto rows =
      load(R"({"model_type": "falcon", "vocab_size": 3, "hidden_size": 6, "num_hidden_layers": 1,
                             "num_attention_heads": 3, "bias": true})");
  EXPECT_THAT(rows, ElementsAreArray(range(0, 10)));
  EXPECT_EQ(use_of_embedding_, ops::WeightUse::kLinear);  // it is the output layer as well
  EXPECT_FALSE(has_head_);
}

TEST_F(QkvRows, FalconClassicInterleavesPerHead) {
  const auto rows =
      load(R"({"model_type": "falcon", "vocab_size": 3, "hidden_size": 6, "num_hidden_layers": 1,
                             "num_attention_heads": 3, "multi_query": false, "bias": true})");
  const std::vector<float> expected = {0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15, 4, 5, 10, 11, 16, 17};
  EXPECT_THAT(rows, ElementsAreArray(expected));
}

TEST_F(QkvRows, FalconNewDecoderInterleavesPerGroup) {
  const auto rows =
      load(R"({"model_type": "falcon", "vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 1,
                             "num_attention_heads": 4, "num_kv_heads": 2, "new_decoder_architecture": true,
                             "bias": true, "tie_word_embeddings": false})");
  // Two groups of 8 rows: two query heads, a key head and a value head of 2 rows each.
  EXPECT_THAT(rows, ElementsAreArray(concatenate({range(0, 4), range(8, 12), range(4, 6), range(12, 14),
                                                  range(6, 8), range(14, 16)})));
  EXPECT_EQ(use_of_embedding_, ops::WeightUse::kRows);
  EXPECT_TRUE(has_head_);
}

TEST_F(QkvRows, GptNeoxInterleavesPerHead) {
  const auto rows =
      load(R"({"model_type": "gpt_neox", "vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 1,
                             "num_attention_heads": 2, "intermediate_size": 8, "rotary_pct": 0.5})");
  EXPECT_THAT(rows, ElementsAreArray(concatenate({range(0, 4), range(12, 16), range(4, 8), range(16, 20),
                                                  range(8, 12), range(20, 24)})));
}

TEST_F(QkvRows, LlamaStacksThreeTensors) {
  const auto rows = load(R"({"model_type": "llama", "vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 1,
                             "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 5,
                             "attention_bias": true})");
  EXPECT_THAT(rows, ElementsAreArray(concatenate({range(0, 8), range(0, 4), range(0, 4)})));
}

TEST_F(QkvRows, TensorsAreAnnouncedAndReleasedOncePerSlot) {
  load(R"({"model_type": "gpt_neox", "vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 2,
           "num_attention_heads": 2, "intermediate_size": 8, "rotary_pct": 0.5})");
  EXPECT_EQ(source_.released.size(), 4u + 2u * 12u);
  for (const auto& [name, count] : source_.released) EXPECT_EQ(count, 1) << name;
  EXPECT_TRUE(source_.announced.contains("gpt_neox.layers.1.mlp.dense_4h_to_h.bias"));
}

/// GPT-2 stores [in, out]: rows of the slot are columns of the tensor.
TEST(TransposedSlot, TakesColumns) {
  Family family = find_family("", "llama");
  family.model_slots = [](const DecoderConfig& config) {
    auto out = find_family("", "llama").model_slots(config);
    out[0].transposed = true;
    std::swap(out[0].parts[0].tensor_shape[0], out[0].parts[0].tensor_shape[1]);
    return out;
  };
  const DecoderConfig config = read_config(R"({"model_type": "llama", "vocab_size": 5, "hidden_size": 4,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4, "tie_word_embeddings": true})");

  RowNumbers source;
  const auto device = ops::create_device("reference", {});
  // Element (row, column) of the tensor is its row: so element (r, c) of the packed table is c.
  const auto weights = load_weights(config, family, source, *device, {core::DType::kF32}, {});
  ASSERT_EQ(weights.embedding->rows(), 5);
  ASSERT_EQ(weights.embedding->cols(), 4);
  const std::vector<std::int32_t> ids = {4, 0};
  auto id_buffer = device->allocate(8);
  auto out = device->allocate(2 * 4 * 4);
  const auto stream = device->create_stream();
  std::vector<float> found(8);
  stream->upload(id_buffer.address(), ids.data(), 8);
  stream->embed({.token_ids = {id_buffer.address(), 2},
                 .slot_tokens = {},
                 .table = weights.embedding.get(),
                 .scale = 1.0f,
                 .out = {out.address(), core::DType::kF32, 2, 4, 4}});
  stream->download(found.data(), out.address(), 32);
  stream->wait(stream->record());
  EXPECT_THAT(found, ElementsAreArray({0, 1, 2, 3, 0, 1, 2, 3}));
}

/// A family whose table disagrees with its config is a defect, found before anything is packed.
TEST(FamilyTable, MustFillItsSlotsExactly) {
  Family family = find_family("", "llama");
  family.model_slots = [](const DecoderConfig& config) {
    auto out = find_family("", "llama").model_slots(config);
    out[0].parts[0].rows.run -= 1;
    return out;
  };
  const DecoderConfig config = read_config(R"({"model_type": "llama", "vocab_size": 5, "hidden_size": 4,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4})");
  RowNumbers source;
  const auto device = ops::create_device("reference", {});
  const auto error = caught([&] { load_weights(config, family, source, *device, {core::DType::kF32}, {}); });
  EXPECT_EQ(error.kind, core::ErrorKind::kInternal);
  EXPECT_THAT(error.message, ::testing::HasSubstr("token embedding"));
}

}  // namespace
}  // namespace peregrine::model
