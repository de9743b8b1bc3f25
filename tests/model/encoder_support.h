// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/encoder.h"
#include "model/load.h"
#include "ops/device.h"

namespace peregrine::model {

/// Sizes of a small BERT.
struct BertShape {
  std::int64_t vocab = 50;
  std::int64_t hidden = 24;
  std::int64_t heads = 3;
  std::int64_t layers = 2;
  std::int64_t intermediate = 37;
  std::int64_t positions = 40;  ///< Rows of the table.
  std::int64_t types = 2;
  std::int64_t labels = 0;
};

struct NamedTensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

using NamedTensors = std::map<std::string, NamedTensor>;

/// The tensors of a BERT's body under the names that transformers writes, `prefix` before each, with random
/// values.
NamedTensors bert_tensors(const BertShape& shape, const std::string& prefix);

/// A random tensor; its values depend on name and shape only.
NamedTensor random_tensor(std::string_view name, std::vector<std::int64_t> shape);

/// config.json of a BERT, with `more` members: "\"pad_token_id\": 1, ".
std::string bert_config(const BertShape& shape, std::string_view architecture, std::string_view model_type,
                        std::string_view more = "");

/// A model directory. Tensors are stored as float32, or rounded to bfloat16.
void write_model(const std::filesystem::path& directory, const std::string& config,
                 const NamedTensors& tensors, core::DType dtype = core::DType::kF32);

/// One text for plain_bert().
struct PlainText {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> position_rows;  ///< Of the position table.
  std::vector<std::int32_t> types;
};

/// The last hidden states of a text, [positions x hidden] in double, in the plainest way there is (Devlin et
/// al. 2018; Vaswani et al. 2017, section 3). Knows nothing of the code under test.
std::vector<double> plain_bert(const NamedTensors& tensors, const std::string& prefix, const BertShape& shape,
                               const PlainText& text);

/// activation(weight * x + bias) of the tensors `name`.weight and `name`.bias.
std::vector<double> plain_linear(const NamedTensors& tensors, const std::string& name,
                                 const std::vector<double>& x,
                                 const std::function<double(double)>& activation);

/// An encoder on a device of its own, for running batches by hand.
class EncoderBench {
 public:
  using Loader = std::function<LoadedModel(ops::Device&)>;
  EncoderBench(std::unique_ptr<ops::Device> device, const Loader& load,
               const EncoderLimits& limits = {.rows = 256, .sequences = 20});

  const Encoder& encoder() const { return *model_.encoder; }
  ops::Stream& stream() { return *stream_; }
  EncoderBuffers& buffers() { return *buffers_; }

  /// The last hidden states of each text of a batch. Layers run in pieces that begin at `pieces`.
  std::vector<std::vector<float>> hidden(const std::vector<EncoderSequence>& texts,
                                         const std::vector<std::int32_t>& pieces = {});
  /// Class scores of each text of a batch.
  std::vector<std::vector<float>> scores(const std::vector<EncoderSequence>& texts);

 private:
  std::vector<float> read(const ops::Matrix& matrix, std::int64_t first, std::int64_t rows);

  std::unique_ptr<ops::Device> device_;
  LoadedModel model_;
  std::unique_ptr<ops::Stream> stream_;
  std::unique_ptr<EncoderBuffers> buffers_;
};

}  // namespace peregrine::model
