// SPDX-License-Identifier: Apache-2.0
#include "model/t5_oracle.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <numbers>

namespace peregrine::model {
namespace {

using Grid = T5Oracle::Grid;

void add(Grid& to, const Grid& what) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    for (std::size_t j = 0; j < to[i].size(); ++j) to[i][j] += what[i][j];
  }
}

/// The tanh approximation, which T5 v1.1 was trained with.
double gelu_tanh(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

}  // namespace

int T5Oracle::bucket(std::int64_t distance, bool both_ways) {
  // Where each bucket behind the exact ones begins: exact * (128 / exact)^(k / buckets), rounded up.
  static constexpr int kBoth[] = {8, 12, 16, 23, 32, 46, 64, 91};
  static constexpr int kBackward[] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
  const std::span<const int> starts =
      both_ways ? std::span<const int>(kBoth) : std::span<const int>(kBackward);
  const std::int64_t size = both_ways ? std::abs(distance) : std::max<std::int64_t>(-distance, 0);
  const int first = both_ways && distance > 0 ? 16 : 0;
  if (size < starts[0]) return first + static_cast<int>(size);
  const auto begun = std::count_if(starts.begin(), starts.end(), [size](int start) { return start <= size; });
  return first + starts[0] + static_cast<int>(begun) - 1;
}

const std::vector<float>& T5Oracle::tensor(const std::string& name, std::int64_t rows, std::int64_t cols) {
  auto [at, is_new] = tensors_.try_emplace(name);
  if (!is_new) return at->second;
  std::vector<std::int64_t> dimensions = {rows, cols};
  if (cols == 0) dimensions.pop_back();
  const weights::StoredTensor& stored = source_.require(name, dimensions);
  at->second.resize(stored.data.size() / sizeof(float));
  std::memcpy(at->second.data(), stored.data.data(), stored.data.size());
  source_.release(stored);
  return at->second;
}

Grid T5Oracle::embed(std::span<const std::int32_t> tokens) {
  const auto& table = tensor("shared.weight", shape_.vocab, shape_.hidden);
  Grid out;
  for (const std::int32_t token : tokens) {
    const auto row = table.begin() + token * shape_.hidden;
    out.emplace_back(row, row + shape_.hidden);
  }
  return out;
}

Grid T5Oracle::linear(const Grid& in, const std::string& name, std::int64_t rows) {
  const auto cols = static_cast<std::int64_t>(in.at(0).size());
  const float* weight = tensor(name + ".weight", rows, cols).data();
  Grid out;
  for (const auto& x : in) {
    auto& row = out.emplace_back(static_cast<std::size_t>(rows));
    for (std::int64_t n = 0; n < rows; ++n) {
      // Four sums, because a single one would wait for each addition.
      double sums[4] = {};
      for (std::int64_t k = 0; k < cols; ++k) {
        sums[k % 4] += static_cast<double>(weight[n * cols + k]) * x[static_cast<std::size_t>(k)];
      }
      row[static_cast<std::size_t>(n)] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
  }
  return out;
}

Grid T5Oracle::norm(const Grid& in, const std::string& name) {
  const auto& weight = tensor(name + ".weight", shape_.hidden, 0);
  Grid out = in;
  for (auto& row : out) {
    double squares = 0.0;
    for (const double x : row) squares += x * x;
    const double divisor = std::sqrt(squares / static_cast<double>(row.size()) + 1e-6);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] *= static_cast<double>(weight[i]) / divisor;
  }
  return out;
}

Grid T5Oracle::attention(const Grid& queries, const Grid& keys, const std::string& name, Sight sight) {
  const std::int64_t inner = shape_.heads * shape_.head_width;
  const Grid q = linear(queries, name + ".q", inner);
  const Grid k = linear(keys, name + ".k", inner);
  const Grid v = linear(keys, name + ".v", inner);
  // Only the first layer stores biases; the others use them too.
  const std::string stack = name.substr(0, name.find('.'));
  const std::vector<float>* bias = nullptr;
  if (sight != Sight::kOtherText) {
    bias = &tensor(stack + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight", 32, shape_.heads);
  }
  Grid mixed(q.size(), std::vector<double>(static_cast<std::size_t>(inner)));
  for (std::size_t i = 0; i < q.size(); ++i) {
    for (std::int64_t head = 0; head < shape_.heads; ++head) {
      const auto first = static_cast<std::size_t>(head * shape_.head_width);
      const auto width = static_cast<std::size_t>(shape_.head_width);
      const std::size_t seen = sight == Sight::kBackward ? i + 1 : k.size();
      std::vector<double> weights(seen);
      for (std::size_t j = 0; j < seen; ++j) {
        for (std::size_t c = first; c < first + width; ++c) weights[j] += q[i][c] * k[j][c];
        if (bias == nullptr) continue;
        const auto distance = static_cast<std::int64_t>(j) - static_cast<std::int64_t>(i);
        weights[j] += static_cast<double>((*bias)[static_cast<std::size_t>(
            bucket(distance, sight == Sight::kBothWays) * shape_.heads + head)]);
      }
      const double highest = *std::max_element(weights.begin(), weights.end());
      double sum = 0.0;
      for (double& weight : weights) sum += weight = std::exp(weight - highest);
      for (std::size_t j = 0; j < seen; ++j) {
        for (std::size_t c = first; c < first + width; ++c) mixed[i][c] += weights[j] / sum * v[j][c];
      }
    }
  }
  return linear(mixed, name + ".o", shape_.hidden);
}

Grid T5Oracle::mlp(const Grid& in, const std::string& name) {
  Grid gate = linear(in, name + ".wi_0", shape_.intermediate);
  const Grid up = linear(in, name + ".wi_1", shape_.intermediate);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    for (std::size_t j = 0; j < gate[i].size(); ++j) gate[i][j] = gelu_tanh(gate[i][j]) * up[i][j];
  }
  return linear(gate, name + ".wo", shape_.hidden);
}

Grid T5Oracle::encode(std::span<const std::int32_t> tokens) {
  Grid x = embed(tokens);
  for (std::int64_t i = 0; i < shape_.layers; ++i) {
    const std::string layer = "encoder.block." + std::to_string(i) + ".layer.";
    const Grid normed = norm(x, layer + "0.layer_norm");
    add(x, attention(normed, normed, layer + "0.SelfAttention", Sight::kBothWays));
    add(x, mlp(norm(x, layer + "1.layer_norm"), layer + "1.DenseReluDense"));
  }
  return norm(x, "encoder.final_layer_norm");
}

Grid T5Oracle::logits(std::span<const std::int32_t> tokens, const Grid& encoded) {
  Grid x = embed(tokens);
  for (std::int64_t i = 0; i < shape_.layers; ++i) {
    const std::string layer = "decoder.block." + std::to_string(i) + ".layer.";
    const Grid normed = norm(x, layer + "0.layer_norm");
    add(x, attention(normed, normed, layer + "0.SelfAttention", Sight::kBackward));
    add(x,
        attention(norm(x, layer + "1.layer_norm"), encoded, layer + "1.EncDecAttention", Sight::kOtherText));
    add(x, mlp(norm(x, layer + "2.layer_norm"), layer + "2.DenseReluDense"));
  }
  return linear(norm(x, "decoder.final_layer_norm"), "lm_head", shape_.vocab);
}

}  // namespace peregrine::model
