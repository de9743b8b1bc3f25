// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numbers>
#include <vector>

#include "ops/reference/operations.h"
#include "ops/reference/storage.h"
#include "ops/reference/views.h"

namespace peregrine::ops::reference {
namespace {

float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kGelu:
      // Phi(x) by erfc, which keeps its relative precision far below zero.
      return x * (0.5f * std::erfc(-x / std::numbers::sqrt2_v<float>));
    case Activation::kGeluTanh: {
      const float inner = std::sqrt(2.0f * std::numbers::inv_pi_v<float>) * (x + 0.044715f * (x * x * x));
      return 0.5f * x * (1.0f + std::tanh(inner));
    }
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kRelu:
      return x < 0.0f ? 0.0f : x;
    case Activation::kTanh:
      return std::tanh(x);
  }
  core::fail(core::ErrorKind::kInternal, "activation {} is unknown", static_cast<int>(activation));
}

float sum(const std::vector<float>& values) {
  float total = 0;
  for (const float value : values) total += value;
  return total;
}

float sum_of_squares(const std::vector<float>& values) {
  float total = 0;
  for (const float value : values) total += value * value;
  return total;
}

float dot(const std::vector<float>& a, const std::vector<float>& b) {
  float total = 0;
  for (std::size_t k = 0; k < a.size(); ++k) total += a[k] * b[k];
  return total;
}

void expect_type(const Matrix& matrix, bool bfloat16_allowed, const char* what) {
  expect(matrix.dtype == core::DType::kF32 || (bfloat16_allowed && matrix.dtype == core::DType::kBF16),
         "{}: elements of type {}", what, core::to_string(matrix.dtype));
}

/// Sums over K of the rows of a matrix times the rows of a weight, in the weight's type.
class Products {
 public:
  Products(const AddressSpace& memory, const ReferenceWeight& weight, const MatrixView& in, std::int64_t rows)
      : memory_(memory), weight_(weight) {
    for (std::int64_t row = 0; row < rows; ++row) {
      if (is_int8()) {
        quantized_inputs_.push_back(quantize(in.row(row)));
      } else {
        inputs_.push_back(in.row(row));
      }
    }
  }

  /// Of every row with row `col` of the weight.
  std::vector<float> with(std::int64_t col) const {
    std::vector<float> out;
    if (is_int8()) {
      const QuantizedRow weights = weight_.quantized_row(memory_, col);
      for (const QuantizedRow& input : quantized_inputs_) out.push_back(product(input, weights));
    } else {
      const std::vector<float> weights = weight_.row(memory_, col);
      for (const std::vector<float>& input : inputs_) out.push_back(dot(input, weights));
    }
    return out;
  }

 private:
  bool is_int8() const { return weight_.dtype() == core::DType::kI8; }

  const AddressSpace& memory_;
  const ReferenceWeight& weight_;
  std::vector<std::vector<float>> inputs_;
  std::vector<QuantizedRow> quantized_inputs_;
};

}  // namespace

void execute(const AddressSpace& memory, const EmbedArgs& args) {
  const ReferenceWeight& table = ReferenceWeight::of(args.table);
  expect_type(args.out, false, "embed out");
  const MatrixView out(memory, args.out, args.out.rows, table.cols(), "embed out");
  const auto token_ids = view(memory, args.token_ids, args.out.rows, "embed token_ids");
  for (std::int64_t row = 0; row < args.out.rows; ++row) {
    std::int64_t token = token_ids[static_cast<std::size_t>(row)];
    if (token < 0) {
      const std::int64_t slot = ~token;
      expect(slot < args.slot_tokens.size, "embed: row {} names slot {} of {}", row, slot,
             args.slot_tokens.size);
      token = view(memory, args.slot_tokens, slot + 1, "embed slot_tokens")[static_cast<std::size_t>(slot)];
    }
    token += args.offset;
    const bool known = token >= 0 && token < table.rows();
    const std::vector<float> numbers = known ? table.row(memory, token) : std::vector<float>();
    for (std::int64_t col = 0; col < table.cols(); ++col) {
      const float value = known ? args.scale * numbers[static_cast<std::size_t>(col)] : 0.0f;
      out.set(row, col, args.accumulate ? out.get(row, col) + value : value);
    }
  }
}

void execute(const AddressSpace& memory, const NormArgs& args) {
  const std::int64_t width = args.out.cols;
  expect_type(args.in, false, "norm in");
  expect_type(args.out, true, "norm out");
  const MatrixView in(memory, args.in, args.row_index ? args.in.rows : args.out.rows, width, "norm in");
  const MatrixView out(memory, args.out, args.out.rows, width, "norm out");
  const bool copies = args.kind == NormKind::kNone;
  const auto weight = copies ? std::span<float>() : view(memory, args.weight, width, "norm weight");
  const auto bias = args.bias ? view(memory, args.bias, width, "norm bias") : std::span<float>();
  const auto index = args.row_index ? view(memory, args.row_index, args.out.rows, "norm row_index")
                                    : std::span<std::int32_t>();
  if (args.residual) expect_type(args.residual, false, "norm residual");
  // A place holder where there is no residual: `out` has the right shape.
  const MatrixView residual(memory, args.residual ? args.residual : args.out, args.out.rows, width,
                            "norm residual");
  const auto count = static_cast<float>(width);
  for (std::int64_t row = 0; row < args.out.rows; ++row) {
    const std::int64_t source = args.row_index ? index[static_cast<std::size_t>(row)] : row;
    expect(source >= 0 && source < args.in.rows, "norm row_index: row {} of {}", source, args.in.rows);
    std::vector<float> values = in.row(source);
    if (copies) {
      for (std::int64_t col = 0; col < width; ++col) out.set(row, col, values[static_cast<std::size_t>(col)]);
      continue;
    }
    if (args.kind == NormKind::kLayer) {
      const float mean = sum(values) / count;
      for (float& value : values) value -= mean;
    }
    const float divisor = std::sqrt(sum_of_squares(values) / count + args.epsilon);
    for (std::size_t col = 0; col < values.size(); ++col) {
      float value = values[col] / divisor * weight[col];
      if (!bias.empty()) value += bias[col];
      const auto at = static_cast<std::int64_t>(col);
      out.set(row, at, args.residual ? value + residual.get(row, at) : value);
    }
  }
}

void execute(const AddressSpace& memory, const LinearArgs& args) {
  const ReferenceWeight& weight = ReferenceWeight::of(args.weight);
  expect(weight.use() == WeightUse::kLinear, "linear: the weight was packed for rows only");
  expect_type(args.in, true, "linear in");
  expect_type(args.out, true, "linear out");
  expect_no_overlap(args.in, args.out, "linear");
  const std::int64_t rows = args.out.rows;
  const MatrixView in(memory, args.in, rows, weight.cols(), "linear in");
  const MatrixView out(memory, args.out, rows, weight.rows(), "linear out");
  const auto bias = args.bias ? view(memory, args.bias, weight.rows(), "linear bias") : std::span<float>();
  if (args.residual) expect_type(args.residual, false, "linear residual");
  // A place holder where there is no residual: `out` has the right shape.
  const MatrixView residual(memory, args.residual ? args.residual : args.out, rows, weight.rows(),
                            "linear residual");

  const Products products(memory, weight, in, rows);
  for (std::int64_t col = 0; col < weight.rows(); ++col) {
    const std::vector<float> sums = products.with(col);
    for (std::int64_t row = 0; row < rows; ++row) {
      float value = sums[static_cast<std::size_t>(row)];
      if (args.bias) value += bias[static_cast<std::size_t>(col)];
      value = activate(args.activation, value);
      if (args.soft_cap > 0) value = args.soft_cap * std::tanh(value / args.soft_cap);
      if (args.residual) value += residual.get(row, col);
      out.set(row, col, value);
    }
  }
}

void execute(const AddressSpace& memory, const GatedActivationArgs& args) {
  const std::int64_t width = args.out.cols;
  expect_no_overlap(args.in, args.out, "gated_activation");
  const MatrixView in(memory, args.in, args.out.rows, 2 * width, "gated_activation in");
  const MatrixView out(memory, args.out, args.out.rows, width, "gated_activation out");
  for (std::int64_t row = 0; row < args.out.rows; ++row) {
    for (std::int64_t col = 0; col < width; ++col) {
      out.set(row, col, activate(args.activation, in.get(row, col)) * in.get(row, width + col));
    }
  }
}

}  // namespace peregrine::ops::reference
