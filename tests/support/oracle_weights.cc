// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/float16.h"
#include "support/oracle.h"

// Fills an Oracle from the slots of a family. Reads every element on its own through the declared row runs,
// so that a mistake in the loader's packing cannot repeat itself here.

namespace peregrine::testing {
namespace {

using model::Slot;

float stored_element(const weights::StoredTensor& tensor, std::int64_t index) {
  const std::byte* at = tensor.data.data() + static_cast<std::size_t>(index) * core::size_of(tensor.dtype);
  switch (tensor.dtype) {
    case core::DType::kF32: {
      float value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case core::DType::kBF16: {
      core::BFloat16 value;
      std::memcpy(&value.bits, at, sizeof value.bits);
      return core::to_float(value);
    }
    case core::DType::kF16: {
      core::Float16 value;
      std::memcpy(&value.bits, at, sizeof value.bits);
      return core::to_float(value);
    }
    default:
      throw std::invalid_argument("the oracle reads float tensors only, " + tensor.name + " is " +
                                  core::to_string(tensor.dtype));
  }
}

float rounded_to(core::DType type, float value) {
  switch (type) {
    case core::DType::kBF16:
      return static_cast<float>(round_to_bfloat16(value));
    case core::DType::kF16:
      return core::to_float(core::to_float16(value));
    default:
      return value;
  }
}

/// Every row as ops/device.h quantizes it, in float32 where that says so.
void quantize_rows(OracleMatrix& matrix) {
  for (std::int64_t r = 0; r < matrix.rows; ++r) {
    float* row = matrix.values.data() + r * matrix.cols;
    float largest = 0.0f;
    for (std::int64_t i = 0; i < matrix.cols; ++i) largest = std::max(largest, std::abs(row[i]));
    const float scale = largest / 127.0f;
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    for (std::int64_t i = 0; i < matrix.cols; ++i) row[i] = std::nearbyint(row[i] * inverse) * scale;
  }
}

OracleMatrix read_slot(weights::TensorSource& source, const model::SlotSource& slot, core::DType type) {
  OracleMatrix matrix;
  for (const model::Part& part : slot.parts) {
    const weights::StoredTensor& tensor = source.require(part.tensor, part.tensor_shape);
    const bool vector = part.tensor_shape.size() == 1;
    const std::int64_t stored_cols = vector ? 1 : part.tensor_shape[1];
    const std::int64_t cols = vector ? 1 : (slot.transposed ? part.tensor_shape[0] : part.tensor_shape[1]);
    // Rounding to the type it is stored in changes nothing, and takes longest of all.
    const bool exact = type == core::DType::kF32 || type == tensor.dtype;
    matrix.cols = cols;
    matrix.values.reserve(matrix.values.size() +
                          static_cast<std::size_t>(part.rows.count * part.rows.run * cols));
    for (std::int64_t run = 0; run < part.rows.count; ++run) {
      for (std::int64_t i = 0; i < part.rows.run; ++i) {
        const std::int64_t row = part.rows.first + run * part.rows.step + i;
        for (std::int64_t col = 0; col < cols; ++col) {
          const std::int64_t at = slot.transposed ? col * stored_cols + row : row * stored_cols + col;
          const float value = stored_element(tensor, at);
          matrix.values.push_back(exact ? value : rounded_to(type, value));
        }
        ++matrix.rows;
      }
    }
    source.release(tensor);
  }
  if (type == core::DType::kI8) quantize_rows(matrix);
  return matrix;
}

std::vector<double> read_vector(weights::TensorSource& source, const model::SlotSource& slot) {
  const OracleMatrix matrix = read_slot(source, slot, core::DType::kF32);
  return {matrix.values.begin(), matrix.values.end()};
}

}  // namespace

double round_to_bfloat16(double value) {
  if (value == 0.0 || !std::isfinite(value)) return value;
  // 8 significant bits. Below the smallest normal number (2^-126) the spacing stays 2^-133.
  const int exponent = std::max(std::ilogb(value), -126);
  return std::ldexp(std::nearbyint(std::ldexp(value, 7 - exponent)), exponent - 7);
}

namespace {

/// The oracle knows the first three residual orders, rotary and ALiBi positions, and none of the choices
/// below.
void refuse_unknown(const model::DecoderConfig& config) {
  const bool known_order = config.residual == model::ResidualOrder::kSequential ||
                           config.residual == model::ResidualOrder::kParallelOneNorm ||
                           config.residual == model::ResidualOrder::kParallelTwoNorms;
  const bool known_positions =
      config.positions == model::PositionKind::kRotary || config.positions == model::PositionKind::kAlibi;
  const bool has_other = config.rotary.scaling == model::RotaryScaling::kLongRope || config.cross_attention ||
                         config.norm_weight_offset != 0.0f || config.embedding_norm || !config.final_norm ||
                         config.final_norm_scale != 1.0f || config.attention_scale_by_layer ||
                         config.attention_soft_cap > 0.0f || config.window > 0 || config.qkv_clip > 0.0f ||
                         config.logit_soft_cap > 0.0f || config.embedding_size > 0;
  if (!known_order || !known_positions || has_other) {
    throw std::invalid_argument("the oracle does not know all choices of " + config.family);
  }
}

void read_model_slot(weights::TensorSource& source, const model::SlotSource& slot, core::DType matrices,
                     OracleWeights& out) {
  switch (slot.slot) {
    case Slot::kTokenEmbedding:
      out.embedding = read_slot(source, slot, matrices);
      break;
    case Slot::kHead:
      out.head = read_slot(source, slot, matrices);
      break;
    case Slot::kHeadBias:
      out.head_bias = read_vector(source, slot);
      break;
    case Slot::kFinalNormWeight:
      out.final_norm_weight = read_vector(source, slot);
      break;
    case Slot::kFinalNormBias:
      out.final_norm_bias = read_vector(source, slot);
      break;
    default:
      throw std::invalid_argument(std::string("not a model slot: ") + model::to_string(slot.slot));
  }
}

/// Experts are listed in their order.
void read_layer_slot(weights::TensorSource& source, const model::SlotSource& slot, core::DType matrices,
                     OracleLayer& layer) {
  switch (slot.slot) {
    case Slot::kAttentionNormWeight:
      layer.norm1_weight = read_vector(source, slot);
      break;
    case Slot::kAttentionNormBias:
      layer.norm1_bias = read_vector(source, slot);
      break;
    case Slot::kMlpNormWeight:
      layer.norm2_weight = read_vector(source, slot);
      break;
    case Slot::kMlpNormBias:
      layer.norm2_bias = read_vector(source, slot);
      break;
    case Slot::kQueryNorm:
      layer.query_norm = read_vector(source, slot);
      break;
    case Slot::kKeyNorm:
      layer.key_norm = read_vector(source, slot);
      break;
    case Slot::kQkv:
      layer.qkv = read_slot(source, slot, matrices);
      break;
    case Slot::kQkvBias:
      layer.qkv_bias = read_vector(source, slot);
      break;
    case Slot::kAttentionOut:
      layer.attention_out = read_slot(source, slot, matrices);
      break;
    case Slot::kAttentionOutBias:
      layer.attention_out_bias = read_vector(source, slot);
      break;
    case Slot::kMlpUp:
      layer.up = read_slot(source, slot, matrices);
      break;
    case Slot::kMlpUpBias:
      layer.up_bias = read_vector(source, slot);
      break;
    case Slot::kMlpDown:
      layer.down = read_slot(source, slot, matrices);
      break;
    case Slot::kMlpDownBias:
      layer.down_bias = read_vector(source, slot);
      break;
    case Slot::kRouter:
      layer.router = read_slot(source, slot, matrices == core::DType::kI8 ? core::DType::kF32 : matrices);
      break;
    case Slot::kExpertUp:
      layer.expert_up.push_back(read_slot(source, slot, matrices));
      break;
    case Slot::kExpertDown:
      layer.expert_down.push_back(read_slot(source, slot, matrices));
      break;
    default:
      throw std::invalid_argument(std::string("not a layer slot: ") + model::to_string(slot.slot));
  }
}

}  // namespace

OracleWeights read_oracle_weights(const model::DecoderConfig& config, const model::Family& family,
                                  weights::TensorSource& source, core::DType matrices) {
  OracleWeights out;
  for (const model::SlotSource& slot : family.model_slots(config)) {
    read_model_slot(source, slot, matrices, out);
  }
  out.layers.resize(static_cast<std::size_t>(config.layers));
  for (std::int32_t index = 0; index < config.layers; ++index) {
    OracleLayer& layer = out.layers[static_cast<std::size_t>(index)];
    for (const model::SlotSource& slot : family.layer_slots(config, index)) {
      read_layer_slot(source, slot, matrices, layer);
    }
  }
  return out;
}

Oracle::Oracle(const model::DecoderConfig& config, OracleWeights weights)
    : config_(config), weights_(std::move(weights)) {
  refuse_unknown(config);
}

}  // namespace peregrine::testing
