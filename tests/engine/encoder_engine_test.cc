// SPDX-License-Identifier: Apache-2.0
#include "engine/encoder_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/encoder_support.h"
#include "support/test_data.h"

namespace peregrine::engine {
namespace {

using core::ErrorKind;
using generation::EncodeKind;
using generation::Pooling;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Ids = std::vector<std::int32_t>;
using Vector = std::vector<float>;
using Vectors = std::map<RequestId, Vector>;

struct Caught {
  std::optional<ErrorKind> kind;
  std::string message = "no error";
};

template <typename Function>
Caught caught(Function&& function) {
  try {
    function();
  } catch (const core::Error& error) {
    return {error.kind(), error.what()};
  }
  return {};
}

/// A small BERT that classifies; texts are of up to 40 tokens.
class EncoderEngines : public ::testing::Test {
 protected:
  static constexpr std::int64_t kLongest = 40;

  explicit EncoderEngines(bool classifies = true)
      : shape_(make_shape(classifies)),
        tensors_(make_tensors(shape_)),
        device_(ops::create_device("cpu", {.threads = 2, .isa = ""})) {
    load();
  }

  static model::BertShape make_shape(bool classifies) {
    model::BertShape shape;
    shape.labels = classifies ? 3 : 0;
    return shape;
  }

  static model::NamedTensors make_tensors(const model::BertShape& shape) {
    auto out = model::bert_tensors(shape, "bert.");
    const auto add = [&](const std::string& name, std::vector<std::int64_t> sizes) {
      out[name] = model::random_tensor(name, std::move(sizes));
    };
    if (shape.labels > 0) {
      add("bert.pooler.dense.weight", {shape.hidden, shape.hidden});
      add("bert.pooler.dense.bias", {shape.hidden});
      add("classifier.weight", {shape.labels, shape.hidden});
      add("classifier.bias", {shape.labels});
    }
    return out;
  }

  void load() {
    testing::TemporaryDirectory directory;
    const char* architecture = shape_.labels > 0 ? "BertForSequenceClassification" : "BertModel";
    model::write_model(directory.path(),
                       model::bert_config(shape_, architecture, "bert", R"("num_labels": 3, )"), tensors_);
    model_ = model::load_model(directory.path(), *device_, {});
  }

  const model::Encoder& encoder() const { return *model_->encoder; }

  std::unique_ptr<EncoderEngine> make(const EngineOptions& options = {}) const {
    return std::make_unique<EncoderEngine>(*device_, encoder(), options);
  }

  static EncodeRequest text(RequestId id, std::size_t tokens, Pooling pooling = Pooling::kMean,
                            EncodeKind kind = EncodeKind::kEmbed) {
    EncodeRequest out;
    out.id = id;
    out.kind = kind;
    out.pooling = pooling;
    for (std::size_t i = 0; i < tokens; ++i)
      out.ids.push_back(static_cast<std::int32_t>((7 * id + 3 * i) % 50));
    return out;
  }

  /// Texts of many lengths, kinds and poolings, some with token types.
  static std::vector<EncodeRequest> mixed(std::size_t count) {
    std::vector<EncodeRequest> out;
    for (RequestId id = 0; id < count; ++id) {
      const auto kind = id % 4 == 3 ? EncodeKind::kClassify : EncodeKind::kEmbed;
      out.push_back(text(id, 1 + (id * 11) % 40, static_cast<Pooling>(id % 3), kind));
      out.back().normalize = id % 2 == 0;
      if (id % 5 == 0) out.back().token_types.assign(out.back().ids.size(), 1);
    }
    return out;
  }

  static Vectors run(EncoderEngine& engine) {
    Vectors out;
    while (engine.step([&](RequestId id, std::span<const float> values) {
      EXPECT_TRUE(out.emplace(id, Vector(values.begin(), values.end())).second) << id;
    })) {
    }
    return out;
  }

  Vectors run(const std::vector<EncodeRequest>& requests, const EngineOptions& options = {}) const {
    const auto engine = make(options);
    for (const auto& request : requests) engine->submit(request);
    return run(*engine);
  }

  Vectors alone(const std::vector<EncodeRequest>& requests) const {
    Vectors out;
    for (const auto& request : requests) out.merge(run({request}));
    return out;
  }

  model::BertShape shape_;
  model::NamedTensors tensors_;
  std::unique_ptr<ops::Device> device_;
  std::optional<model::LoadedModel> model_;
};

/// The same without a classifier.
class PlainEncoderEngines : public EncoderEngines {
 protected:
  PlainEncoderEngines() : EncoderEngines(false) {}
};

EngineOptions options_of(std::int32_t texts, std::int32_t tokens, std::int64_t longest = 0) {
  EngineOptions out;
  out.max_rolling_batch_size = texts;
  out.max_rolling_batch_prefill_tokens = tokens;
  out.max_model_length = longest;
  return out;
}

TEST_F(EncoderEngines, PoolsWhatTheModelGives) {
  const std::size_t width = static_cast<std::size_t>(shape_.hidden);
  const auto request = text(1, 18);
  model::PlainText plain{request.ids, {}, Ids(18, 0)};
  for (std::int32_t i = 0; i < 18; ++i) plain.position_rows.push_back(i);
  const auto hidden = model::plain_bert(tensors_, "bert.", shape_, plain);
  for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kLast}) {
    std::vector<double> expected(width);
    for (std::size_t row = 0; row < 18; ++row) {
      const double weight = pooling == Pooling::kMean  ? 1.0 / 18
                            : pooling == Pooling::kCls ? row == 0
                                                       : row == 17;
      for (std::size_t i = 0; i < width; ++i) expected[i] += weight * hidden[row * width + i];
    }
    double squares = 0;
    for (const double value : expected) squares += value * value;
    for (const bool normalize : {false, true}) {
      auto wanted = text(1, 18, pooling);
      wanted.normalize = normalize;
      const Vector found = run({wanted}).at(1);
      ASSERT_EQ(found.size(), width);
      double length = 0;
      for (std::size_t i = 0; i < width; ++i) {
        EXPECT_NEAR(found[i], expected[i] / (normalize ? std::sqrt(squares) : 1.0), 2e-5);
        length += double{found[i]} * found[i];
      }
      if (normalize) {
        EXPECT_NEAR(length, 1.0, 1e-6);
      }
    }
  }
}

TEST_F(EncoderEngines, NothingDependsOnWhatSharesTheBatch) {
  const auto requests = mixed(32);
  const Vectors expected = alone(requests);
  ASSERT_EQ(expected.size(), requests.size());
  EXPECT_EQ(expected.at(3).size(), 3u);
  EXPECT_EQ(expected.at(4).size(), 24u);
  for (const auto& [texts, tokens] :
       std::vector<std::pair<int, int>>{{32, 512}, {32, 40}, {1, 512}, {5, 97}, {4096, 131072}}) {
    EXPECT_EQ(run(requests, options_of(texts, tokens)), expected)
        << texts << " texts, " << tokens << " tokens";
  }
}

TEST_F(EncoderEngines, BatchesHoldWhatFitsInOrderOfArrivalWithoutPadding) {
  const auto engine = make(options_of(3, 64));
  std::vector<std::vector<RequestId>> batches;
  // 30 + 30 | 40 + 1 + 1 (three texts) | 2 + 40 | 40
  const std::vector<std::size_t> lengths = {30, 30, 40, 1, 1, 2, 40, 40};
  for (std::size_t i = 0; i < lengths.size(); ++i) engine->submit(text(i, lengths[i]));
  EXPECT_EQ(engine->stats().waiting, 8);
  EXPECT_FALSE(engine->idle());
  for (bool more = true; more;) {
    std::vector<RequestId> ids;
    more = engine->step([&](RequestId id, std::span<const float>) { ids.push_back(id); });
    if (more) batches.push_back(ids);
  }
  EXPECT_THAT(batches,
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3, 4), ElementsAre(5, 6), ElementsAre(7)));
  EXPECT_EQ(engine->stats().steps, 4u);
  EXPECT_EQ(engine->stats().prefill_tokens, 184u) << "each token once, and no others";
  EXPECT_EQ(engine->stats().waiting, 0);
  EXPECT_TRUE(engine->idle());
}

TEST_F(EncoderEngines, ATextLongerThanTheBudgetRunsAlone) {
  const auto engine = make(options_of(8, 10));
  engine->submit(text(0, 40));
  engine->submit(text(1, 1));
  EXPECT_EQ(run(*engine), alone({text(0, 40), text(1, 1)}));
  EXPECT_EQ(engine->stats().steps, 2u);
  // Nor are buffers planned for more than could ever be computed.
  EXPECT_LT(engine->memory_plan().buffer_bytes, make(options_of(8, 320))->memory_plan().buffer_bytes);
  EXPECT_EQ(make(options_of(8, 320))->memory_plan().buffer_bytes,
            make(options_of(8, 100000))->memory_plan().buffer_bytes);
  EXPECT_EQ(engine->memory_plan().weight_bytes, encoder().weight_bytes());
  EXPECT_EQ(engine->memory_plan().max_model_length, kLongest);
  EXPECT_EQ(engine->memory_plan().kv_cache_bytes, 0u);
}

TEST_F(EncoderEngines, CancelTakesOutWhatWaits) {
  const auto engine = make();
  for (RequestId id = 0; id < 5; ++id) engine->submit(text(id, 3 + id));
  EXPECT_TRUE(engine->cancel(1));
  EXPECT_FALSE(engine->cancel(1));
  EXPECT_TRUE(engine->cancel(4));
  EXPECT_FALSE(engine->cancel(9));
  engine->submit(text(1, 12));  // The id is free again.
  EXPECT_EQ(run(*engine), alone({text(0, 3), text(1, 12), text(2, 5), text(3, 6)}));
  EXPECT_FALSE(engine->cancel(2)) << "it has been computed";
}

TEST_F(EncoderEngines, TheSinkMaySubmitCancelAndThrow) {
  const auto engine = make(options_of(3, 512));
  for (RequestId id = 0; id < 5; ++id) engine->submit(text(id, 3 + id));
  Vectors found;
  bool thrown = false;
  const auto sink = [&](RequestId id, std::span<const float> values) {
    if (id == 0) {
      engine->submit(text(10, 8));
      EXPECT_TRUE(engine->cancel(4));
    }
    if (id == 1 && !thrown) {
      thrown = true;
      throw std::runtime_error("the client is gone");
    }
    EXPECT_TRUE(found.emplace(id, Vector(values.begin(), values.end())).second) << id;
  };
  EXPECT_THROW(engine->step(sink), std::runtime_error);
  // The text of the failed call is done with; the one behind it comes before what waited.
  EXPECT_EQ(engine->stats().waiting, 3);
  while (engine->step(sink)) {
  }
  EXPECT_EQ(found, alone({text(0, 3), text(2, 5), text(3, 6), text(10, 8)}));
}

TEST_F(EncoderEngines, AnyInterleavingGivesTheSame) {
  const auto requests = mixed(120);
  const Vectors expected = alone(requests);
  std::mt19937 random(11);
  const auto engine = make(options_of(6, 90));
  Vectors found;
  std::size_t next = 0, cancelled = 0;
  while (next < requests.size() || !engine->idle()) {
    const auto choice = random() % 8;
    if (choice < 5 && next < requests.size()) {
      engine->submit(requests[next++]);
    } else if (choice < 6) {
      // One of the last, which may still wait.
      if (next > 0 && engine->cancel(next - 1 - random() % std::min<std::size_t>(next, 4))) ++cancelled;
    } else {
      engine->step([&](RequestId id, std::span<const float> values) {
        EXPECT_TRUE(found.emplace(id, Vector(values.begin(), values.end())).second) << id;
      });
    }
  }
  EXPECT_GT(cancelled, 3u);
  EXPECT_EQ(found.size() + cancelled, requests.size());
  for (const auto& [id, values] : found) EXPECT_EQ(values, expected.at(id)) << id;
}

TEST_F(EncoderEngines, WhatCanNeverRunIsRefusedWithTheNumbers) {
  const auto engine = make(options_of(4, 64, 20));
  const auto error = [&](const std::function<void(EncodeRequest&)>& change) {
    auto request = text(1, 4);
    change(request);
    return caught([&] { engine->submit(request); });
  };
  auto found = error([](auto& request) { request.ids.clear(); });
  EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(found.message, HasSubstr("no tokens"));
  found = error([](auto& request) { request.ids.resize(21); });
  EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(found.message, AllOf(HasSubstr("21"), HasSubstr("20"), HasSubstr("max_model_length")));
  for (const std::int32_t id : {-1, 50, INT32_MAX, INT32_MIN}) {
    found = error([&](auto& request) { request.ids[2] = id; });
    EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
    EXPECT_THAT(found.message, AllOf(HasSubstr("ids[2] is " + std::to_string(id)), HasSubstr("0 to 49")));
  }
  found = error([](auto& request) { request.token_types = {0, 1, 0}; });
  EXPECT_THAT(found.message, AllOf(HasSubstr("3 values"), HasSubstr("4 ids")));
  for (const std::int32_t type : {-1, 2}) {
    found = error([&](auto& request) { request.token_types = {0, 1, 0, type}; });
    EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
    EXPECT_THAT(found.message,
                AllOf(HasSubstr("token_types[3] is " + std::to_string(type)), HasSubstr("0 to 1")));
  }
  EXPECT_TRUE(engine->idle());
  engine->submit(text(1, 20));
  found = error([](auto&) {});
  EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(found.message, HasSubstr("request 1"));
  EXPECT_EQ(run(*engine), alone({text(1, 20)})) << "nothing else was disturbed";
}

TEST_F(EncoderEngines, OptionsOutOfRangeAreNamed) {
  for (const auto& [options, name] : std::vector<std::pair<EngineOptions, const char*>>{
           {options_of(0, 64), "max_rolling_batch_size is 0"},
           {options_of(4097, 64), "max_rolling_batch_size is 4097"},
           {options_of(4, 0), "max_rolling_batch_prefill_tokens is 0"},
           {options_of(4, 131073), "max_rolling_batch_prefill_tokens is 131073"},
           {options_of(4, 64, 41), "max_model_length is 41; allowed is 1 to 40"},
           {options_of(4, 64, -1), "max_model_length is -1"}}) {
    const auto found = caught([&, wanted = options] { make(wanted); });
    EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
    EXPECT_THAT(found.message, HasSubstr(name));
  }
}

TEST_F(EncoderEngines, WhatAreNotNumbersComesEmpty) {
  // Finite weights, whose products are not.
  for (float& value : tensors_.at("bert.encoder.layer.1.output.LayerNorm.weight").values) value = 3e38f;
  load();
  for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kLast}) {
    EXPECT_THAT(run({text(1, 9, pooling)}).at(1), IsEmpty());
  }
  EXPECT_THAT(run({text(1, 9, Pooling::kMean, EncodeKind::kClassify)}).at(1), IsEmpty());
}

TEST_F(PlainEncoderEngines, ClassifyNothing) {
  const auto engine = make();
  const auto found = caught([&] { engine->submit(text(1, 4, Pooling::kMean, EncodeKind::kClassify)); });
  EXPECT_EQ(found.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(found.message, HasSubstr("no classifier"));
}

TEST(EncoderEngineWithoutTokenTypes, TakesZerosOnly) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/distilbert_cls");
  const auto device = ops::create_device("cpu", {.threads = 1, .isa = ""});
  const auto model = model::load_model(testing::test_data() / "golden" / "distilbert_cls", *device, {});
  EncoderEngine engine(*device, *model.encoder, {});
  EncodeRequest request;
  request.ids = {1, 2, 3};
  Vectors found;
  const auto sink = [&](RequestId id, std::span<const float> values) {
    found[id].assign(values.begin(), values.end());
  };
  engine.submit(request);
  request.id = 1;
  request.token_types = {0, 0, 0};
  engine.submit(request);
  engine.step(sink);
  EXPECT_FALSE(found.at(0).empty());
  EXPECT_EQ(found.at(0), found.at(1));
  request.token_types = {0, 1, 0};
  EXPECT_THAT(caught([&] { engine.submit(request); }).message, HasSubstr("token_types[1] is 1"));
}

}  // namespace
}  // namespace peregrine::engine
