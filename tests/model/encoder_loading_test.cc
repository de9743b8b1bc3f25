// SPDX-License-Identifier: Apache-2.0
// Encoders as they lie on disk: other names, missing parts, other element types. What a loaded model computes
// is compared with the plainest computation in double precision.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "model/encoder_support.h"
#include "model/support.h"
#include "support/test_data.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

// Values are of order 1, and float32 keeps seven digits through two layers.
constexpr double kTolerance = 2e-5;

const Ids kIds = {3, 49, 7, 7, 0, 12, 31, 8, 22, 5, 17, 40, 41, 42, 2, 9, 33, 6};
const Ids kOnes(kIds.size(), 1);

EncoderBench bench_of(const std::string& config, const NamedTensors& tensors, DType dtype = DType::kF32,
                      const std::string& device = "reference", const LoadOptions& options = {}) {
  testing::TemporaryDirectory directory;
  write_model(directory.path(), config, tensors, dtype);
  return EncoderBench(ops::create_device(device, {.threads = 2, .isa = ""}),
                      [&](ops::Device& target) { return load_model(directory.path(), target, options); });
}

void expect_near(const std::vector<float>& found, const std::vector<double>& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], tolerance) << what << ", element " << i;
}

Ids counted(std::size_t count, std::int32_t first = 0) {
  Ids out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(first + static_cast<std::int32_t>(i));
  return out;
}

PlainText bert_text(const Ids& ids, const Ids& types) { return {ids, counted(ids.size()), types}; }

TEST(EncoderLoading, BertModelWithAndWithoutItsPrefix) {
  const BertShape shape;
  const Ids zeros(kIds.size(), 0);
  for (const std::string device : {"reference", "cpu"}) {
    for (const std::string prefix : {"", "bert."}) {
      const auto tensors = bert_tensors(shape, prefix);
      auto bench = bench_of(bert_config(shape, "BertModel", "bert"), tensors, DType::kF32, device);
      const auto found =
          bench.hidden({{.tokens = kIds, .token_types = {}}, {.tokens = kIds, .token_types = kOnes}});
      const std::string what = device + " with prefix '" + prefix + "'";
      expect_near(found[0], plain_bert(tensors, prefix, shape, bert_text(kIds, zeros)), kTolerance, what);
      expect_near(found[1], plain_bert(tensors, prefix, shape, bert_text(kIds, kOnes)), kTolerance, what);
      EXPECT_FALSE(bench.encoder().config().head.has_pooler) << "there is none in the file";
    }
  }
}

TEST(EncoderLoading, XlmRobertaCountsPositionsBehindThePaddingToken) {
  BertShape shape;
  shape.types = 1;
  const Ids zeros(kIds.size(), 0);
  for (const auto& [architecture, type] :
       std::vector<std::pair<const char*, const char*>>{{"XLMRobertaModel", "xlm-roberta"},
                                                        {"XLMRobertaForMaskedLM", "xlm-roberta"},
                                                        {"CamembertModel", "camembert"}}) {
    for (const std::string prefix : {"", "roberta."}) {
      const auto tensors = bert_tensors(shape, prefix);
      auto bench = bench_of(bert_config(shape, architecture, type, R"("pad_token_id": 1, )"), tensors);
      const auto found = bench.hidden({{.tokens = kIds, .token_types = {}}});
      const PlainText text{kIds, counted(kIds.size(), 2), zeros};
      expect_near(found[0], plain_bert(tensors, prefix, shape, text), kTolerance, architecture);
    }
  }
}

TEST(EncoderLoading, RobertaDoesNotCountPaddingTokensWithinAText) {
  BertShape shape;
  shape.types = 1;
  const auto tensors = bert_tensors(shape, "roberta.");
  auto bench = bench_of(bert_config(shape, "RobertaModel", "roberta", R"("pad_token_id": 7, )"), tensors);
  const Ids ids = {7, 3, 7, 7, 4, 5};
  const auto found = bench.hidden({{.tokens = ids, .token_types = {}}});
  const PlainText text{ids, {7, 8, 7, 7, 9, 10}, Ids(6, 0)};
  expect_near(found[0], plain_bert(tensors, "roberta.", shape, text), kTolerance, "padding within");
}

TEST(EncoderLoading, NamesOfTensorFlowAreRead) {
  const BertShape shape;
  const auto tensors = bert_tensors(shape, "bert.");
  const auto config = bert_config(shape, "BertModel", "bert");
  auto now = bench_of(config, tensors);
  const auto expected = now.hidden({{.tokens = kIds, .token_types = kOnes}});
  for (const bool prefixed : {true, false}) {
    NamedTensors renamed;
    for (const auto& [stored, tensor] : tensors) {
      std::string name = stored;
      for (const auto& [from, to] :
           {std::pair<std::string, std::string>{"LayerNorm.weight", "LayerNorm.gamma"},
            {"LayerNorm.bias", "LayerNorm.beta"}}) {
        if (name.ends_with(from)) name.replace(name.size() - from.size(), from.size(), to);
      }
      renamed[prefixed ? name : name.substr(5)] = tensor;
    }
    ASSERT_EQ(renamed.size(), tensors.size());
    auto then = bench_of(config, renamed);
    EXPECT_EQ(then.hidden({{.tokens = kIds, .token_types = kOnes}}), expected);
    // Where both are there, the newer name counts.
    for (auto& [name, tensor] : renamed) {
      if (name.ends_with("gamma")) tensor.values.assign(tensor.values.size(), 5.0f);
    }
    for (const auto& [name, tensor] : tensors) renamed[prefixed ? name : name.substr(5)] = tensor;
    auto both = bench_of(config, renamed);
    EXPECT_EQ(both.hidden({{.tokens = kIds, .token_types = kOnes}}), expected);
  }
}

/// The tensors of a classifier, by the names of its family.
NamedTensors classifier_tensors(const BertShape& shape, const std::string& prefix, const std::string& first,
                                const std::string& second) {
  auto out = bert_tensors(shape, prefix);
  out[first + ".weight"] = random_tensor(first + ".weight", {shape.hidden, shape.hidden});
  out[first + ".bias"] = random_tensor(first + ".bias", {shape.hidden});
  out[second + ".weight"] = random_tensor(second + ".weight", {shape.labels, shape.hidden});
  out[second + ".bias"] = random_tensor(second + ".bias", {shape.labels});
  return out;
}

TEST(EncoderLoading, ClassifiersReadTheFirstPosition) {
  BertShape shape;
  shape.types = 1;
  shape.labels = 3;
  const auto tanh = [](double x) { return std::tanh(x); };
  const auto same = [](double x) { return x; };
  struct Case {
    const char* architecture;
    const char* type;
    std::string prefix, first, second;
    std::int32_t offset;
  };
  for (const auto& known : std::vector<Case>{
           {"BertForSequenceClassification", "bert", "bert.", "bert.pooler.dense", "classifier", 0},
           {"XLMRobertaForSequenceClassification", "xlm-roberta", "roberta.", "classifier.dense",
            "classifier.out_proj", 2}}) {
    const auto tensors = classifier_tensors(shape, known.prefix, known.first, known.second);
    auto bench =
        bench_of(bert_config(shape, known.architecture, known.type, R"("num_labels": 3, )"), tensors);
    // The text of interest is not the first of its batch.
    const Ids other = {4, 5, 6};
    const auto scores =
        bench.scores({{.tokens = other, .token_types = {}}, {.tokens = kIds, .token_types = {}}});
    auto hidden = plain_bert(tensors, known.prefix, shape,
                             {kIds, counted(kIds.size(), known.offset), Ids(kIds.size(), 0)});
    hidden.resize(static_cast<std::size_t>(shape.hidden));
    const auto pooled = plain_linear(tensors, known.first, hidden, tanh);
    expect_near(scores.at(1), plain_linear(tensors, known.second, pooled, same), kTolerance,
                known.architecture);
  }
}

TEST(EncoderLoading, EveryMissingOrMisshapenTensorIsNamed) {
  BertShape shape;
  shape.labels = 2;
  const auto whole = classifier_tensors(shape, "bert.", "bert.pooler.dense", "classifier");
  const auto config = bert_config(shape, "BertForSequenceClassification", "bert");
  for (const auto& [name, tensor] : whole) {
    NamedTensors less = whole;
    less.erase(name);
    auto error = caught([&] { bench_of(config, less); });
    EXPECT_EQ(error.kind, ErrorKind::kNotFound) << name << ": " << error.message;
    EXPECT_THAT(error.message, HasSubstr(name));
    NamedTensors other = whole;
    other[name].shape.back() += 1;
    other[name].values.resize(random_tensor(name, other[name].shape).values.size());
    error = caught([&] { bench_of(config, other); });
    EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument) << name << ": " << error.message;
    EXPECT_THAT(error.message, HasSubstr(name));
  }
}

TEST(EncoderLoading, APoolerOfAnotherShapeIsRefusedThoughItMayBeMissing) {
  const BertShape shape;
  auto tensors = bert_tensors(shape, "");
  tensors["pooler.dense.weight"] = random_tensor("pooler", {shape.hidden, shape.hidden - 1});
  tensors["pooler.dense.bias"] = random_tensor("pooler", {shape.hidden});
  const auto error = caught([&] { bench_of(bert_config(shape, "BertModel", "bert"), tensors); });
  EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("pooler.dense.weight"));
}

TEST(EncoderLoading, DataTypesFollowTheCheckpoint) {
  const BertShape shape;
  const auto tensors = bert_tensors(shape, "");
  const auto config = bert_config(shape, "BertModel", "bert");
  auto narrow = bench_of(config, tensors, DType::kBF16, "cpu");
  EXPECT_EQ(narrow.encoder().types().weights, DType::kBF16);
  EXPECT_EQ(narrow.encoder().types().compute, DType::kBF16);
  EXPECT_EQ(narrow.encoder().types().output, DType::kF32);
  LoadOptions options;
  options.compute = DType::kF32;
  options.cache = DType::kBF16;  // without effect
  auto wide = bench_of(config, tensors, DType::kBF16, "cpu", options);
  EXPECT_EQ(wide.encoder().types().compute, DType::kF32);
  // Eight bits of each operand: a hundredth of the values' size, and not nothing.
  const auto a = narrow.hidden({{.tokens = kIds, .token_types = {}}})[0];
  const auto b = wide.hidden({{.tokens = kIds, .token_types = {}}})[0];
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::abs(double{a[i]} - b[i]);
    size += std::abs(double{b[i]});
  }
  EXPECT_LT(difference, 0.03 * size);
  EXPECT_GT(difference, 1e-5 * size);
  options.compute = DType::kF16;
  EXPECT_EQ(caught([&] { bench_of(config, tensors, DType::kF32, "cpu", options); }).kind,
            ErrorKind::kUnsupported);
}

TEST(EncoderLoading, CallsBeyondTheLimitsAreDefects) {
  const BertShape shape;
  auto bench = bench_of(bert_config(shape, "BertModel", "bert"), bert_tensors(shape, ""));
  const auto kind = [&](const std::vector<EncoderSequence>& texts) {
    return caught([&] { bench.hidden(texts); }).kind;
  };
  const Ids long_text(41, 1), negative = {1, -2}, unknown = {50}, wrong_type = {0, 2};
  EXPECT_EQ(kind({}), ErrorKind::kInternal);
  EXPECT_EQ(kind({{.tokens = {}, .token_types = {}}}), ErrorKind::kInternal);
  EXPECT_EQ(kind({{.tokens = long_text, .token_types = {}}}), ErrorKind::kInternal);
  EXPECT_EQ(kind({{.tokens = negative, .token_types = {}}}), ErrorKind::kInternal);
  EXPECT_EQ(kind({{.tokens = unknown, .token_types = {}}}), ErrorKind::kInternal);
  EXPECT_EQ(kind({{.tokens = std::span(kIds).first(2), .token_types = wrong_type}}), ErrorKind::kInternal);
  EXPECT_EQ(kind(std::vector<EncoderSequence>(21, {.tokens = kIds, .token_types = {}})),
            ErrorKind::kInternal);
  EXPECT_EQ(kind(std::vector<EncoderSequence>(15, {.tokens = kIds, .token_types = {}})),
            ErrorKind::kInternal);
  EXPECT_EQ(kind(std::vector<EncoderSequence>(14, {.tokens = kIds, .token_types = {}})), std::nullopt);
  EXPECT_EQ(caught([&] { bench.encoder().run_layers(bench.stream(), bench.buffers(), 1, 3); }).kind,
            ErrorKind::kInternal);
  EXPECT_EQ(caught([&] { bench.encoder().classify(bench.stream(), bench.buffers()); }).kind,
            ErrorKind::kInternal);
}

}  // namespace
}  // namespace peregrine::model
