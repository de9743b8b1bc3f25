// SPDX-License-Identifier: Apache-2.0
// T5 beyond the golden models: longer texts against float64, what its files may say, and how checkpoints name
// its embedding.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "model/encoder_family.h"
#include "model/random_models.h"
#include "model/relative_positions.h"
#include "model/seq2seq_bench.h"
#include "model/support.h"
#include "model/t5_oracle.h"
#include "support/devices.h"
#include "support/test_data.h"
#include "weights/checkpoint.h"
#include "weights/random_source.h"
#include "weights/safetensors_writer.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using ::testing::AllOf;
using testing::DeviceCase;
using ::testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;

TEST(RelativeBucket, IsThatOfThePublishedModels) {
  const RelativePositionsConfig config;
  for (std::int32_t distance = -300; distance <= 300; ++distance) {
    EXPECT_EQ(relative_bucket(config, distance, Direction::kBoth), T5Oracle::bucket(distance, true))
        << distance;
    EXPECT_EQ(relative_bucket(config, distance, Direction::kBackward), T5Oracle::bucket(distance, false))
        << distance;
  }
}

/// Random weights whose relative biases are as large as those of trained models.
class BiasedSource : public weights::RandomSource {
 public:
  BiasedSource() : RandomSource(11, core::DType::kF32) {}

  const weights::StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) override {
    const weights::StoredTensor& tensor = RandomSource::require(name, shape);
    if (name.find("relative_attention_bias") == std::string_view::npos) return tensor;
    auto [at, is_new] = scaled_.try_emplace(std::string(name));
    Scaled& out = at->second;
    if (is_new) {
      out.values.resize(tensor.data.size() / sizeof(float));
      std::memcpy(out.values.data(), tensor.data.data(), tensor.data.size());
      for (float& value : out.values) value *= 100.0f;
      out.tensor = tensor;
      out.tensor.data = std::as_bytes(std::span(out.values));
    }
    return out.tensor;
  }

 private:
  struct Scaled {
    weights::StoredTensor tensor;
    std::vector<float> values;
  };
  std::map<std::string, Scaled> scaled_;
};

std::string config_text(const T5Shape& shape) {
  return fmt::format(
      R"({{"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": {},
    "d_model": {}, "d_kv": {}, "d_ff": {}, "num_layers": {}, "num_heads": {}, "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": false, "layer_norm_epsilon": 1e-6}})",
      shape.vocab, shape.hidden, shape.head_width, shape.intermediate, shape.layers, shape.heads);
}

LoadedModel load_from(weights::TensorSource& source, const T5Shape& shape, ops::Device& device) {
  LoadedModel out{model_info::ModelDirectory::parse("t5", config_text(shape), std::nullopt), nullptr};
  const Family& family = find_family("T5ForConditionalGeneration", "t5");
  out.decoder = Decoder::load(family.read_config(out.directory.config()), family, source, device, {}, {});
  out.encoder = Encoder::load(family.encoder->read_config(out.directory.config(), ""), *family.encoder,
                              source, device, {}, {});
  return out;
}

class T5Wide : public ::testing::TestWithParam<DeviceCase> {};

// float32 sums of up to 1,024 products round by some 1e-6 of a logit, which is about 1 here; a bias or a
// position that is off by one changes them by 1e-3 and more.
TEST_P(T5Wide, AgreesWithFloat64BeyondSegmentsAndDistances) {
  // The width of Flan-T5-small; the naive device gets a smaller model.
  const bool naive = GetParam().device == "reference";
  const T5Shape shape = naive ? T5Shape{200, 96, 3, 16, 80, 2} : T5Shape{500, 512, 6, 64, 1024, 2};
  BiasedSource source;
  Seq2SeqBench bench(GetParam().create(),
                     [&](ops::Device& device) { return load_from(source, shape, device); });
  T5Oracle oracle(shape, source);
  const Tokens answer = some_tokens(45, 5, 190);
  for (const std::size_t length : {1u, 17u, 300u}) {
    const Tokens text = some_tokens(length, static_cast<std::int32_t>(length), 190);
    const auto expected = oracle.logits(answer, oracle.encode(text));
    const auto found = bench.decode(answer, bench.store({text}).at(0), 30);
    ASSERT_EQ(found.size(), expected.size() * bench.vocab());
    double largest = 0.0, scale = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double wanted = expected[i / bench.vocab()][i % bench.vocab()];
      largest = std::max(largest, std::abs(static_cast<double>(found[i]) - wanted));
      scale = std::max(scale, std::abs(wanted));
    }
    EXPECT_LT(largest, 2e-5) << "a text of " << length << " tokens";
    EXPECT_GT(scale, 0.5);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, T5Wide, ::testing::ValuesIn(testing::all_devices()),
                         [](const auto& info) { return info.param.name(); });

std::string t5(const std::string& more) {
  return R"({"model_type": "t5", "vocab_size": 100, "d_model": 48, "d_kv": 10, "d_ff": 96, "num_layers": 2,
    "num_heads": 6)" +
         (more.empty() ? "" : ", " + more) + "}";
}

TEST(T5Config, DefaultsAreThoseOfTransformers) {
  const auto config = read_config(t5(""));
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.head_dim, 10);
  EXPECT_EQ(config.kv_heads, 6);
  EXPECT_EQ(config.relative.buckets, 32);
  EXPECT_EQ(config.relative.max_distance, 128);
  EXPECT_EQ(config.positions, PositionKind::kRelative);
  EXPECT_EQ(config.norm, ops::NormKind::kRms);
  EXPECT_EQ(config.norm_epsilon, 1e-6f);
  EXPECT_EQ(config.attention_scale, 1.0f);
  EXPECT_EQ(config.activation, ops::Activation::kRelu);
  EXPECT_TRUE(config.cross_attention && config.tied_head && !config.gated_mlp && !config.norm_bias);
  EXPECT_FLOAT_EQ(config.final_norm_scale, 1.0f / std::sqrt(48.0f));
  EXPECT_EQ(config.usual_positions, 2048);
  EXPECT_GT(config.max_positions, 100000);
  const auto multilingual = read_config(R"({"model_type": "mt5", "vocab_size": 100, "d_model": 48, "d_kv": 8,
    "d_ff": 96, "num_layers": 2, "num_heads": 6, "num_decoder_layers": 3})");
  EXPECT_EQ(multilingual.layers, 3);
  EXPECT_EQ(multilingual.activation, ops::Activation::kGeluTanh);
  EXPECT_TRUE(multilingual.gated_mlp && !multilingual.tied_head);
  EXPECT_EQ(multilingual.final_norm_scale, 1.0f);
}

TEST(T5Config, EncoderAndDecoderMayDiffer) {
  const auto directory = model_info::ModelDirectory::parse(
      "t5", t5(R"("num_decoder_layers": 5, "n_positions": 4096, "feed_forward_proj": "gated-silu")"),
      std::nullopt);
  const Family& family = find_family("", "t5");
  const auto decoder = family.read_config(directory.config());
  const auto encoder = family.encoder->read_config(directory.config(), "");
  EXPECT_EQ(decoder.layers, 5);
  EXPECT_EQ(encoder.layers, 2);
  EXPECT_EQ(encoder.usual_positions, 4096);
  EXPECT_EQ(encoder.activation, ops::Activation::kSilu);
  EXPECT_TRUE(encoder.gated_mlp && encoder.final_norm && !encoder.embedding_norm);
  EXPECT_EQ(encoder.residual, ResidualOrder::kSequential);
}

TEST(T5Config, FeedForward) {
  const auto read = [](const std::string& more) { return read_config(t5(more)); };
  EXPECT_EQ(read(R"("feed_forward_proj": "gelu")").activation, ops::Activation::kGelu);
  EXPECT_EQ(read(R"("feed_forward_proj": "gated-gelu")").activation, ops::Activation::kGeluTanh);
  EXPECT_EQ(read(R"("feed_forward_proj": "gated-relu")").activation, ops::Activation::kRelu);
  EXPECT_TRUE(read(R"("feed_forward_proj": "gated-relu")").gated_mlp);
  EXPECT_EQ(read(R"("feed_forward_proj": "gated-gelu", "dense_act_fn": "silu")").activation,
            ops::Activation::kSilu);
  const auto error = caught([&] { read(R"("feed_forward_proj": "gated-mish")"); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, AllOf(HasSubstr("gated-mish"), HasSubstr("silu")));
}

TEST(T5Config, RefusesWhatItCannotBe) {
  const auto message = [](const std::string& more) { return caught([&] { read_config(t5(more)); }).message; };
  EXPECT_THAT(message(R"("is_encoder_decoder": false)"), HasSubstr("'is_encoder_decoder' is false"));
  EXPECT_THAT(message(R"("relative_attention_num_buckets": 2)"), HasSubstr("relative_attention_num_buckets"));
  EXPECT_THAT(message(R"("relative_attention_max_distance": 16)"), HasSubstr("above half"));
  EXPECT_THAT(message(R"("relative_attention_max_distance": 1000000)"), HasSubstr("from 1 to 4096"));
  EXPECT_THAT(message(R"("num_decoder_layers": 0)"), HasSubstr("num_decoder_layers"));
  EXPECT_THAT(message(R"("quantization_config": {})"), HasSubstr("quantized"));
  const auto other = caught([] { find_family("UMT5ForConditionalGeneration", "umt5"); });
  EXPECT_EQ(other.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(other.message,
              AllOf(HasSubstr("UMT5ForConditionalGeneration"), HasSubstr("MT5ForConditionalGeneration")));
}

/// Copies a golden model, with the embedding under `names`.
void write_renamed(const std::filesystem::path& from, const std::filesystem::path& to,
                   const std::vector<std::string>& names) {
  const auto checkpoint = weights::Checkpoint::open(from);
  std::vector<weights::TensorToWrite> tensors;
  for (const auto name : checkpoint.names()) {
    const weights::StoredTensor& tensor = *checkpoint.find(name);
    const bool embedding = name == "shared.weight";
    for (const auto& other : embedding ? names : std::vector<std::string>{std::string(name)}) {
      tensors.push_back({other, tensor.dtype, tensor.shape, tensor.data});
    }
  }
  std::filesystem::copy_file(from / "config.json", to / "config.json");
  weights::write_safetensors(to / "model.safetensors", tensors);
}

TEST(T5Loading, FindsTheEmbeddingUnderAnyOfItsNames) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto golden = testing::test_data() / "golden" / "t5_v1_0";
  const auto logits_of = [](const std::filesystem::path& directory) {
    Seq2SeqBench bench(ops::create_device("reference", {}),
                       [&](ops::Device& device) { return load_model(directory, device, {}); });
    return bench.decode(some_tokens(5, 1), bench.store({some_tokens(9, 2)}).at(0));
  };
  const auto expected = logits_of(golden);
  const std::string in_encoder = "encoder.embed_tokens.weight", in_decoder = "decoder.embed_tokens.weight";
  using Names = std::vector<std::string>;
  for (const Names& names : {Names{in_encoder}, Names{in_decoder}, Names{in_encoder, in_decoder}}) {
    const testing::TemporaryDirectory directory;
    write_renamed(golden, directory.path(), names);
    EXPECT_EQ(logits_of(directory.path()), expected) << names[0];
  }
  const testing::TemporaryDirectory directory;
  write_renamed(golden, directory.path(), {"lm_head.weight"});
  EXPECT_THAT(caught([&] { logits_of(directory.path()); }).message, HasSubstr("shared.weight"));
}

TEST(T5Loading, TheEncoderMayStandAlone) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto golden = testing::test_data() / "golden" / "t5_v1_1";
  const auto device = ops::create_device("reference", {});
  const auto whole = load_model(golden, *device, {});
  const testing::TemporaryDirectory directory;
  std::filesystem::copy_file(golden / "model.safetensors", directory.path() / "model.safetensors");
  std::string config = core::read_file(golden / "config.json", 1 << 20);
  const std::string from = "T5ForConditionalGeneration";
  config.replace(config.find(from), from.size(), "T5EncoderModel");
  std::ofstream(directory.path() / "config.json") << config;
  const auto alone = load_model(directory.path(), *device, {});
  EXPECT_EQ(alone.decoder, nullptr);
  ASSERT_NE(alone.encoder, nullptr);
  EXPECT_EQ(alone.encoder->types().output, core::DType::kF32);
  const Tokens text = some_tokens(40, 3);
  const auto first_row = [&](const Encoder& encoder) {
    const auto stream = device->create_stream();
    const auto buffers = encoder.create_buffers({.rows = 40, .sequences = 1});
    const EncoderSequence sequence{.tokens = text};
    encoder.begin(*stream, *buffers, {&sequence, 1});
    encoder.run_layers(*stream, *buffers, 0, encoder.config().layers);
    const auto hidden = encoder.finish(*stream, *buffers).hidden;
    std::vector<float> out(static_cast<std::size_t>(hidden.cols));
    stream->download(out.data(), hidden.data, out.size() * sizeof(float));
    stream->wait(stream->record());
    return out;
  };
  EXPECT_EQ(first_row(*alone.encoder), first_row(*whole.encoder));
}

TEST(T5Loading, ProgressCoversBothParts) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto device = ops::create_device("reference", {});
  LoadOptions options;
  std::uint64_t last = 0, whole = 0;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    if (whole == 0) whole = total;
    EXPECT_EQ(total, whole);
    last = done;
  };
  load_model(testing::test_data() / "golden" / "t5_v1_1", *device, options);
  EXPECT_EQ(last, whole);
  EXPECT_GT(whole, 300000u);
}

TEST(T5Random, NamedShapesLoadAndRun) {
  const auto large = read_config(random_model_config("flan-t5-large"));
  EXPECT_EQ(large.hidden_size, 1024);
  EXPECT_EQ(large.layers, 24);
  EXPECT_TRUE(large.gated_mlp && !large.tied_head);
  EXPECT_TRUE(read_config(random_model_config("t5-base")).tied_head);
  EXPECT_EQ(read_config(random_model_config("flan-t5-small")).heads, 6);
  const std::string spec = "t5-base:layers=2,hidden=32,heads=3,intermediate=40,vocab=120";
  Seq2SeqBench bench(ops::create_device("reference", {}),
                     [&](ops::Device& device) { return load_random_model(spec, device, {}); });
  EXPECT_EQ(bench.decoder().config().layers, 2);
  EXPECT_EQ(bench.encoder().config().layers, 2);
  EXPECT_EQ(bench.encoder().config().heads, 3);
  for (const float logit : bench.decode(some_tokens(4, 1), bench.store({some_tokens(20, 2)}).at(0))) {
    EXPECT_TRUE(std::isfinite(logit));
  }
}

}  // namespace
}  // namespace peregrine::model
