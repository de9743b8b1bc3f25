// SPDX-License-Identifier: Apache-2.0
// What an encoder gives for a text depends on nothing but the text: not on what shares its batch, on threads,
// on pieces of layers, or on what the buffers held before. On golden models and on a random one of BERT's
// width.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <ostream>
#include <string>
#include <vector>

#include "model/encoder_support.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine::model {
namespace {

using core::DType;
using testing::DeviceCase;
using Ids = std::vector<std::int32_t>;

struct LawCase {
  std::string model;  ///< A golden fixture, or a random shape where it has a colon.
  DeviceCase device;
  DType compute;
  core::Quantization quantization = core::Quantization::kNone;

  std::string types() const {
    return std::string(core::to_string(compute)) + (quantization == core::Quantization::kNone
                                                        ? ""
                                                        : std::string("_") + core::to_string(quantization));
  }
};

void PrintTo(const LawCase& law, std::ostream* out) {
  *out << law.model << " on " << law.device.name() << " in " << law.types();
}

class EncoderLaws : public ::testing::TestWithParam<LawCase> {
 protected:
  static constexpr EncoderLimits kLimits = {.rows = 1700, .sequences = 17};

  bool random() const { return GetParam().model.find(':') != std::string::npos; }

  EncoderBench bench(int threads = 2) const {
    LoadOptions options;
    options.compute = GetParam().compute;
    if (options.compute == DType::kBF16) options.weights = DType::kBF16;
    options.random_seed = 5;
    options.quantization = GetParam().quantization;
    return EncoderBench(
        GetParam().device.create(threads),
        [&](ops::Device& device) {
          if (random()) return load_random_model(GetParam().model, device, options);
          return load_model(testing::test_data() / "golden" / GetParam().model, device, options);
        },
        kLimits);
  }

  /// Texts of 1 token to several segments of attention; a random model's are longer.
  std::vector<Ids> make_texts(std::int64_t vocab) const {
    const std::vector<std::size_t> lengths =
        random()
            ? std::vector<std::size_t>{200, 1, 128, 2, 129, 16, 17, 300, 31, 64, 5, 127, 33, 257, 7, 15, 48}
            : std::vector<std::size_t>{17, 1, 33, 2, 16, 5, 31, 48, 3, 15, 32, 7, 1, 40, 9, 11, 26};
    std::vector<Ids> out;
    std::uint32_t state = 12345;
    for (const std::size_t length : lengths) {
      Ids ids;
      for (std::size_t i = 0; i < length; ++i) {
        state = state * 1664525u + 1013904223u;
        ids.push_back(static_cast<std::int32_t>((state >> 8) % static_cast<std::uint32_t>(vocab)));
      }
      out.push_back(std::move(ids));
    }
    return out;
  }

  static std::vector<EncoderSequence> views(const std::vector<Ids>& texts) {
    std::vector<EncoderSequence> out;
    for (const auto& text : texts) out.push_back({.tokens = text, .token_types = {}});
    return out;
  }
};

TEST_P(EncoderLaws, AllHold) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  auto first = bench();
  const auto texts = make_texts(first.encoder().config().vocab_size);
  const auto all = views(texts);
  const bool classifies = !first.encoder().config().head.labels.empty();
  const auto together = first.hidden(all);
  const auto scores = classifies ? first.scores(all) : std::vector<std::vector<float>>();

  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(first.hidden({all[i]})[0], together[i]) << "alone = among 16, text " << i;
    if (classifies) {
      EXPECT_EQ(first.scores({all[i]})[0], scores[i]) << "alone = among 16, text " << i;
    }
  }
  std::vector<EncoderSequence> reversed(all.rbegin(), all.rend());
  auto backwards = first.hidden(reversed);
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(backwards, together) << "in any order";

  EXPECT_EQ(first.hidden(all, {1}), together) << "layers in pieces = at once";
  EXPECT_EQ(first.hidden(all, {0, 1, 1}), together) << "layers in pieces = at once";

  std::vector<std::vector<float>> in_batches;
  for (std::size_t begin = 0; begin < all.size(); begin += 5) {
    const std::size_t end = std::min(begin + 5, all.size());
    for (auto& text : first.hidden({all.begin() + static_cast<std::ptrdiff_t>(begin),
                                    all.begin() + static_cast<std::ptrdiff_t>(end)})) {
      in_batches.push_back(std::move(text));
    }
  }
  EXPECT_EQ(in_batches, together) << "several batches = one";
  EXPECT_EQ(bench(1).hidden(all), together) << "threads 1 = 2";
}

std::vector<LawCase> law_cases() {
  std::vector<LawCase> out;
  for (const auto& device : testing::all_devices()) {
    for (const char* model : {"bert_cls", "roberta_cls", "electra_cls"}) {
      out.push_back({model, device, DType::kF32});
      if (device.create()->supports_compute(DType::kBF16)) out.push_back({model, device, DType::kBF16});
    }
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      out.push_back({"bert_cls", device, compute, core::Quantization::kInt8});
    }
  }
  // On the best instruction set only: the others, and the reference device, take minutes over such a width.
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    out.push_back({"bert-base:layers=2,vocab=999", {"cpu", ""}, compute});
    out.push_back({"bert-base:layers=2,vocab=999", {"cpu", ""}, compute, core::Quantization::kInt8});
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Encoders, EncoderLaws, ::testing::ValuesIn(law_cases()), [](const auto& info) {
  std::string name = info.param.model + "_" + info.param.device.name() + "_" + info.param.types();
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace peregrine::model
