// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "weights/tensor_source.h"

// T5 v1.1 in float64, one text at a time, from its paper (Raffel et al. 2020; Shazeer 2020 for the gated MLP)
// and the tensor names of its checkpoints. Shares nothing with the code under test but the source of tensors.

namespace peregrine::model {

struct T5Shape {
  std::int64_t vocab = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t head_width = 0;
  std::int64_t intermediate = 0;
  std::int64_t layers = 0;  ///< Of the encoder and of the decoder.
};

class T5Oracle {
 public:
  using Grid = std::vector<std::vector<double>>;  ///< One row for each token.

  /// Tensors are read from `source`, which must outlive this, and are float32 there.
  T5Oracle(const T5Shape& shape, weights::TensorSource& source) : shape_(shape), source_(source) {}

  /// The encoder's last hidden states.
  Grid encode(std::span<const std::int32_t> tokens);
  /// Logits of every position of the decoder's `tokens`.
  Grid logits(std::span<const std::int32_t> tokens, const Grid& encoded);

  /// The bucket of a distance (key minus query position), of 32 buckets for distances up to 128.
  static int bucket(std::int64_t distance, bool both_ways);

 private:
  /// Where an attention looks.
  enum class Sight { kBothWays, kBackward, kOtherText };

  const std::vector<float>& tensor(const std::string& name, std::int64_t rows, std::int64_t cols);
  Grid embed(std::span<const std::int32_t> tokens);
  Grid linear(const Grid& in, const std::string& name, std::int64_t rows);
  Grid norm(const Grid& in, const std::string& name);
  /// What is added to the residual stream; `keys` are rows of the text that is looked at.
  Grid attention(const Grid& queries, const Grid& keys, const std::string& name, Sight sight);
  Grid mlp(const Grid& in, const std::string& name);

  T5Shape shape_;
  weights::TensorSource& source_;
  std::map<std::string, std::vector<float>> tensors_;
};

}  // namespace peregrine::model
