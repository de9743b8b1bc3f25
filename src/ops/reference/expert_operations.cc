// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ops/reference/operations.h"
#include "ops/reference/storage.h"
#include "ops/reference/views.h"

namespace peregrine::ops::reference {
namespace {

/// Indices of the `count` highest scores, best first. What is no number is the lowest of all.
std::vector<std::int32_t> highest(const std::vector<float>& scores, std::int32_t count) {
  const auto rank = [&](std::int32_t index) {
    const float score = scores[static_cast<std::size_t>(index)];
    return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  };
  std::vector<std::int32_t> order(scores.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return rank(a) > rank(b); });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

std::vector<float> softmax(const std::vector<float>& scores) {
  float maximum = -std::numeric_limits<float>::infinity();
  for (const float score : scores) maximum = std::max(maximum, score);
  std::vector<float> values;
  float sum = 0;
  for (const float score : scores) {
    values.push_back(std::exp(score - maximum));
    sum += values.back();
  }
  for (float& value : values) value /= sum;
  return values;
}

/// The experts of one operation, all of them checked against its matrices.
class Experts {
 public:
  Experts(const AddressSpace& memory, const ExpertsArgs& args)
      : args_(args),
        pairs_(args.out.rows * args.per_row),
        chosen_(view(memory, args.chosen, pairs_, "experts chosen")),
        weights_(view(memory, args.weights, pairs_, "experts weights")) {
    const core::DType dtype = args.in.dtype;
    expect(dtype == core::DType::kF32 || dtype == core::DType::kBF16, "experts in: elements of type {}",
           core::to_string(dtype));
    expect(args.per_row > 0, "experts: {} experts for each row", args.per_row);
    expect(!args.up.empty() && args.up.size() == args.down.size(), "experts: {} weights up and {} down",
           args.up.size(), args.down.size());
    for (std::size_t e = 0; e < args.up.size(); ++e) check_expert(e);
    view(memory, args.order, pairs_ + static_cast<std::int64_t>(args.up.size()) + 1, "experts order");
    MatrixView(memory, args.in, args.out.rows, args.in.cols, "experts in");
    check(memory, args.gathered, dtype, args.in.cols, "experts gathered");
    check(memory, args.raised, dtype, 2 * widest_, "experts raised");
    check(memory, args.gated, dtype, widest_, "experts gated");
    check(memory, args.lowered, core::DType::kF32, args.in.cols, "experts lowered");
    for (std::size_t pair = 0; pair < chosen_.size(); ++pair) {
      expect(chosen_[pair] >= 0 && static_cast<std::size_t>(chosen_[pair]) < args.up.size(),
             "experts chosen: expert {} of {}", chosen_[pair], args.up.size());
    }
  }

  void run(const AddressSpace& memory) const {
    for (const Matrix* matrix : {&args_.residual, &args_.out}) {
      expect(matrix->dtype == core::DType::kF32, "experts: residual and out are float32, not {}",
             core::to_string(matrix->dtype));
    }
    const MatrixView residual(memory, args_.residual, args_.out.rows, args_.in.cols, "experts residual");
    const MatrixView out(memory, args_.out, args_.out.rows, args_.in.cols, "experts out");
    for (std::int64_t pair = 0; pair < pairs_; ++pair) apply(memory, pair);
    const MatrixView lowered(memory, args_.lowered, pairs_, args_.in.cols, "experts lowered");
    for (std::int64_t row = 0; row < args_.out.rows; ++row) {
      for (std::int64_t col = 0; col < args_.in.cols; ++col) {
        float sum = 0;
        for (std::int64_t pair = row * args_.per_row; pair < (row + 1) * args_.per_row; ++pair) {
          sum += weights_[static_cast<std::size_t>(pair)] * lowered.get(pair, col);
        }
        out.set(row, col, residual.get(row, col) + sum);
      }
    }
  }

 private:
  void check_expert(std::size_t e) {
    const ReferenceWeight& up = ReferenceWeight::of(args_.up[e].get());
    const ReferenceWeight& down = ReferenceWeight::of(args_.down[e].get());
    expect(up.rows() == 2 * down.cols() && up.cols() == args_.in.cols && down.rows() == args_.in.cols,
           "experts: expert {} goes up by {} x {} and down by {} x {}, from and to {} columns", e, up.rows(),
           up.cols(), down.rows(), down.cols(), args_.in.cols);
    widest_ = std::max(widest_, down.cols());
  }

  /// Scratch memory with at least `cols` columns.
  void check(const AddressSpace& memory, const Matrix& matrix, core::DType dtype, std::int64_t cols,
             const char* what) const {
    expect(matrix.dtype == dtype && matrix.cols >= cols, "{}: {} columns of {} needed, {} of {} given", what,
           cols, core::to_string(dtype), matrix.cols, core::to_string(matrix.dtype));
    MatrixView(memory, matrix, pairs_, matrix.cols, what);
  }

  /// One expert on one row, by the operations that make it up.
  void apply(const AddressSpace& memory, std::int64_t pair) const {
    const auto row_of = [](const Matrix& matrix, std::int64_t row, std::int64_t cols) {
      const auto size = static_cast<std::int64_t>(core::size_of(matrix.dtype));
      return Matrix{matrix.data + row * matrix.stride * size, matrix.dtype, 1, cols, matrix.stride};
    };
    const auto expert = static_cast<std::size_t>(chosen_[static_cast<std::size_t>(pair)]);
    const Weight* up = args_.up[expert].get();
    const Weight* down = args_.down[expert].get();
    LinearArgs raise;
    raise.in = row_of(args_.in, pair / args_.per_row, args_.in.cols);
    raise.weight = up;
    raise.out = row_of(args_.raised, pair, up->rows());
    execute(memory, raise);
    GatedActivationArgs gate;
    gate.activation = args_.activation;
    gate.in = raise.out;
    gate.out = row_of(args_.gated, pair, down->cols());
    execute(memory, gate);
    LinearArgs lower;
    lower.in = gate.out;
    lower.weight = down;
    lower.out = row_of(args_.lowered, pair, down->rows());
    execute(memory, lower);
  }

  const ExpertsArgs& args_;
  std::int64_t pairs_;
  std::int64_t widest_ = 0;
  std::span<const std::int32_t> chosen_;
  std::span<const float> weights_;
};

}  // namespace

void execute(const AddressSpace& memory, const RouteArgs& args) {
  const std::int64_t rows = args.scores.rows;
  const std::int32_t columns = args.experts + (args.shared ? 1 : 0);
  const std::int32_t taken = args.per_row + (args.shared ? 1 : 0);
  expect(args.per_row > 0 && args.per_row <= args.experts, "route: {} of {} experts", args.per_row,
         args.experts);
  expect(args.scores.dtype == core::DType::kF32, "route scores: elements of type {}",
         core::to_string(args.scores.dtype));
  const MatrixView scores(memory, args.scores, rows, columns, "route scores");
  const auto chosen = view(memory, args.chosen, rows * taken, "route chosen");
  const auto weights = view(memory, args.weights, rows * taken, "route weights");
  for (std::int64_t row = 0; row < rows; ++row) {
    std::vector<float> values = scores.row(row);
    const float gate = values.back();
    values.resize(static_cast<std::size_t>(args.experts));
    const std::vector<std::int32_t> best = highest(values, args.per_row);
    const std::vector<float> probabilities = softmax(values);
    float sum = 0;
    for (const std::int32_t expert : best) sum += probabilities[static_cast<std::size_t>(expert)];
    const auto at = static_cast<std::size_t>(row * taken);
    for (std::size_t rank = 0; rank < best.size(); ++rank) {
      const float probability = probabilities[static_cast<std::size_t>(best[rank])];
      chosen[at + rank] = best[rank];
      weights[at + rank] = args.normalized ? probability / sum : probability;
    }
    if (args.shared) {
      chosen[at + best.size()] = args.experts;
      weights[at + best.size()] = 1.0f / (1.0f + std::exp(-gate));
    }
  }
}

void execute(const AddressSpace& memory, const ExpertsArgs& args) { Experts(memory, args).run(memory); }

}  // namespace peregrine::ops::reference
