// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/decoder_config.h"
#include "ops/arguments.h"

// The small set of choices in which encoders differ: those that stand alone (BERT and its kin) and those of
// encoder-decoder models (T5). A family fills an EncoderConfig from config.json; the executor
// (model/encoder.h) runs any of them.

namespace peregrine::model {

/// What follows the last hidden state of the first position.
struct EncoderHeadConfig {
  /// A dense layer [hidden, hidden] with this activation; none where has_pooler is false.
  bool has_pooler = false;
  ops::Activation pooler_activation = ops::Activation::kTanh;
  /// Names of the classes, in the order of the scores; empty: there is no classifier.
  std::vector<std::string> labels;
};

struct EncoderConfig {
  std::string family;  ///< "bert", "t5", ...: for messages.
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  /// Where positive, the width of the embeddings; a linear layer with bias leads to the hidden size, behind
  /// the embedding norm. ELECTRA.
  std::int64_t embedding_size = 0;
  std::int32_t layers = 0;
  std::int32_t heads = 0;
  std::int32_t head_dim = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_positions = 0;    ///< Longest text, in tokens.
  std::int64_t usual_positions = 0;  ///< As in DecoderConfig.

  ops::NormKind norm = ops::NormKind::kLayer;
  float norm_epsilon = 1e-12f;
  bool norm_bias = true;
  bool embedding_norm = true;
  bool final_norm = false;
  /// kPostNorm: x = norm1(x + attention(x)); x = norm2(x + mlp(x)) (BERT). kSequential: x +=
  /// attention(norm1(x)); x += mlp(norm2(x)) (T5). No other.
  ResidualOrder residual = ResidualOrder::kPostNorm;

  PositionKind positions = PositionKind::kLearned;  ///< kLearned or kRelative.
  LearnedPositionsConfig learned;                   ///< Its table is embedding_width() wide.
  /// Tokens with this id are not counted where positions are learned: they all have the row before the first
  /// position's. -1: there is none. RoBERTa.
  std::int32_t padding_id = -1;
  RelativePositionsConfig relative;
  std::int32_t token_types = 0;  ///< Rows of the token type table; 0: there is none.
  float attention_scale = 1.0f;

  ops::Activation activation = ops::Activation::kGelu;
  bool gated_mlp = false;
  bool qkv_bias = true;
  bool attention_out_bias = true;
  bool mlp_up_bias = true;
  bool mlp_down_bias = true;

  EncoderHeadConfig head;

  std::int64_t embedding_width() const { return embedding_size > 0 ? embedding_size : hidden_size; }
};

}  // namespace peregrine::model
