// SPDX-License-Identifier: Apache-2.0
#include "model/encoder_support.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "core/float16.h"
#include "weights/safetensors_writer.h"

namespace peregrine::model {
namespace {

using Rows = std::vector<std::vector<double>>;

std::vector<double> table_row(const NamedTensor& table, std::int32_t row) {
  const auto width = table.shape.at(1);
  const auto begin = table.values.begin() + row * width;
  return {begin, begin + width};
}

void layer_norm(const NamedTensors& tensors, const std::string& name, std::vector<double>& x) {
  const auto count = static_cast<double>(x.size());
  double mean = 0, variance = 0;
  for (const double value : x) mean += value / count;
  for (const double value : x) variance += (value - mean) * (value - mean) / count;
  const auto& weight = tensors.at(name + ".weight").values;
  const auto& bias = tensors.at(name + ".bias").values;
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = (x[i] - mean) / std::sqrt(variance + 1e-12) * weight[i] + bias[i];
}

double identity(double x) { return x; }
double gelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

Rows linear(const NamedTensors& tensors, const std::string& name, const Rows& x,
            const std::function<double(double)>& activation = identity) {
  Rows out;
  for (const auto& row : x) out.push_back(plain_linear(tensors, name, row, activation));
  return out;
}

/// What the rows `values` give to `query`, weighed by the softmax over its products with `keys`, for one
/// head.
std::vector<double> attend(const std::vector<double>& query, const Rows& keys, const Rows& values,
                           std::size_t begin, std::size_t width) {
  std::vector<double> weights;
  for (const auto& key : keys) {
    double product = 0;
    for (std::size_t i = begin; i < begin + width; ++i) product += query[i] * key[i];
    weights.push_back(std::exp(product / std::sqrt(static_cast<double>(width))));
  }
  double sum = 0;
  for (const double weight : weights) sum += weight;
  std::vector<double> out(width);
  for (std::size_t k = 0; k < values.size(); ++k) {
    for (std::size_t i = 0; i < width; ++i) out[i] += weights[k] / sum * values[k][begin + i];
  }
  return out;
}

Rows attention(const NamedTensors& tensors, const std::string& layer, const Rows& x, std::int64_t heads) {
  const Rows queries = linear(tensors, layer + "attention.self.query", x);
  const Rows keys = linear(tensors, layer + "attention.self.key", x);
  const Rows values = linear(tensors, layer + "attention.self.value", x);
  const std::size_t width = x[0].size() / static_cast<std::size_t>(heads);
  Rows out(x.size());
  for (std::size_t row = 0; row < x.size(); ++row) {
    for (std::size_t begin = 0; begin < x[0].size(); begin += width) {
      const auto head = attend(queries[row], keys, values, begin, width);
      out[row].insert(out[row].end(), head.begin(), head.end());
    }
  }
  return linear(tensors, layer + "attention.output.dense", out);
}

/// x = norm(x + y)
void add_and_norm(const NamedTensors& tensors, const std::string& norm, const Rows& y, Rows& x) {
  for (std::size_t row = 0; row < x.size(); ++row) {
    for (std::size_t i = 0; i < x[row].size(); ++i) x[row][i] += y[row][i];
    layer_norm(tensors, norm, x[row]);
  }
}

}  // namespace

NamedTensor random_tensor(std::string_view name, std::vector<std::int64_t> shape) {
  std::size_t count = 1;
  for (const auto dimension : shape) count *= static_cast<std::size_t>(dimension);
  std::uint32_t seed = 2166136261u;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 16777619u;
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-0.6f, 0.6f);
  const float centre = name.find("LayerNorm.weight") != std::string_view::npos ? 1.0f : 0.0f;
  NamedTensor out{std::move(shape), std::vector<float>(count)};
  for (float& value : out.values) value = centre + uniform(random);
  return out;
}

NamedTensors bert_tensors(const BertShape& shape, const std::string& prefix) {
  NamedTensors out;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> dimensions) {
    out[prefix + name] = random_tensor(name, std::move(dimensions));
  };
  const auto add_linear = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    add(name + ".weight", {rows, cols});
    add(name + ".bias", {rows});
  };
  const auto add_norm = [&](const std::string& name) {
    add(name + ".weight", {shape.hidden});
    add(name + ".bias", {shape.hidden});
  };
  add("embeddings.word_embeddings.weight", {shape.vocab, shape.hidden});
  add("embeddings.position_embeddings.weight", {shape.positions, shape.hidden});
  add("embeddings.token_type_embeddings.weight", {shape.types, shape.hidden});
  add_norm("embeddings.LayerNorm");
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    const std::string layer = fmt::format("encoder.layer.{}.", i);
    for (const char* part : {"query", "key", "value"})
      add_linear(layer + "attention.self." + part, shape.hidden, shape.hidden);
    add_linear(layer + "attention.output.dense", shape.hidden, shape.hidden);
    add_norm(layer + "attention.output.LayerNorm");
    add_linear(layer + "intermediate.dense", shape.intermediate, shape.hidden);
    add_linear(layer + "output.dense", shape.hidden, shape.intermediate);
    add_norm(layer + "output.LayerNorm");
  }
  return out;
}

std::string bert_config(const BertShape& shape, std::string_view architecture, std::string_view model_type,
                        std::string_view more) {
  return fmt::format(
      R"({{{}"architectures": ["{}"], "model_type": "{}", "vocab_size": {}, "hidden_size": {},
"num_attention_heads": {}, "num_hidden_layers": {}, "intermediate_size": {}, "max_position_embeddings": {},
"type_vocab_size": {}, "hidden_act": "gelu", "layer_norm_eps": 1e-12}})",
      more, architecture, model_type, shape.vocab, shape.hidden, shape.heads, shape.layers,
      shape.intermediate, shape.positions, shape.types);
}

void write_model(const std::filesystem::path& directory, const std::string& config,
                 const NamedTensors& tensors, core::DType dtype) {
  std::vector<std::vector<std::byte>> memory;
  std::vector<weights::TensorToWrite> files;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t size = core::size_of(dtype);
    auto& data = memory.emplace_back(tensor.values.size() * size);
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      const core::BFloat16 narrow = core::to_bfloat16(tensor.values[i]);
      const void* from = size == 4 ? static_cast<const void*>(&tensor.values[i]) : &narrow;
      std::memcpy(data.data() + i * size, from, size);
    }
    files.push_back({name, dtype, tensor.shape, data});
  }
  weights::write_safetensors(directory / "model.safetensors", files);
  std::ofstream(directory / "config.json") << config;
}

std::vector<double> plain_linear(const NamedTensors& tensors, const std::string& name,
                                 const std::vector<double>& x,
                                 const std::function<double(double)>& activation) {
  const auto& weight = tensors.at(name + ".weight").values;
  std::vector<double> out;
  for (const float bias : tensors.at(name + ".bias").values) {
    double sum = bias;
    for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * weight[out.size() * x.size() + i];
    out.push_back(activation(sum));
  }
  return out;
}

std::vector<double> plain_bert(const NamedTensors& tensors, const std::string& prefix, const BertShape& shape,
                               const PlainText& text) {
  const std::string embeddings = prefix + "embeddings.";
  Rows x;
  for (std::size_t i = 0; i < text.ids.size(); ++i) {
    auto row = table_row(tensors.at(embeddings + "word_embeddings.weight"), text.ids[i]);
    const auto position =
        table_row(tensors.at(embeddings + "position_embeddings.weight"), text.position_rows[i]);
    const auto type = table_row(tensors.at(embeddings + "token_type_embeddings.weight"), text.types[i]);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] += position[j] + type[j];
    layer_norm(tensors, embeddings + "LayerNorm", row);
    x.push_back(std::move(row));
  }
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    const std::string layer = fmt::format("{}encoder.layer.{}.", prefix, i);
    add_and_norm(tensors, layer + "attention.output.LayerNorm", attention(tensors, layer, x, shape.heads), x);
    const Rows raised = linear(tensors, layer + "intermediate.dense", x, gelu);
    add_and_norm(tensors, layer + "output.LayerNorm", linear(tensors, layer + "output.dense", raised), x);
  }
  std::vector<double> out;
  for (const auto& row : x) out.insert(out.end(), row.begin(), row.end());
  return out;
}

EncoderBench::EncoderBench(std::unique_ptr<ops::Device> device, const Loader& load,
                           const EncoderLimits& limits)
    : device_(std::move(device)),
      model_(load(*device_)),
      stream_(device_->create_stream()),
      buffers_(encoder().create_buffers(limits)) {}

std::vector<float> EncoderBench::read(const ops::Matrix& matrix, std::int64_t first, std::int64_t rows) {
  std::vector<float> out(static_cast<std::size_t>(rows * matrix.cols));
  for (std::int64_t row = 0; row < rows; ++row) {
    stream_->download(out.data() + row * matrix.cols,
                      matrix.data + static_cast<std::size_t>((first + row) * matrix.stride) * sizeof(float),
                      static_cast<std::size_t>(matrix.cols) * sizeof(float));
  }
  stream_->wait(stream_->record());
  return out;
}

std::vector<std::vector<float>> EncoderBench::hidden(const std::vector<EncoderSequence>& texts,
                                                     const std::vector<std::int32_t>& pieces) {
  encoder().begin(*stream_, *buffers_, texts);
  std::int32_t next = 0;
  for (const std::int32_t end : pieces) {
    encoder().run_layers(*stream_, *buffers_, next, end);
    // As where others' decodes run in between.
    stream_->wait(stream_->record());
    next = end;
  }
  encoder().run_layers(*stream_, *buffers_, next, encoder().config().layers);
  const EncodedBatch encoded = encoder().finish(*stream_, *buffers_);
  std::vector<std::vector<float>> out;
  std::int64_t row = 0;
  for (const auto& text : texts) {
    out.push_back(read(encoded.hidden, row, std::ssize(text.tokens)));
    row += std::ssize(text.tokens);
  }
  return out;
}

std::vector<std::vector<float>> EncoderBench::scores(const std::vector<EncoderSequence>& texts) {
  hidden(texts);
  const ops::Matrix scores = encoder().classify(*stream_, *buffers_);
  std::vector<std::vector<float>> out;
  for (std::int64_t i = 0; i < std::ssize(texts); ++i) out.push_back(read(scores, i, 1));
  return out;
}

}  // namespace peregrine::model
