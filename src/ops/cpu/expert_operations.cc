// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/checked.h"
#include "ops/cpu/operations.h"
#include "ops/cpu/weight.h"

namespace peregrine::ops::cpu {
namespace {

using core::DType;

/// Elements of work from which on waking the other threads pays.
constexpr std::int64_t kWorthThreads = 1 << 14;
/// Columns that one thread takes at a time: about a microsecond of work, and a multiple of 16.
constexpr std::int64_t kColumns = 2048;
/// Columns summed at a time, in registers.
constexpr std::int64_t kLanes = 16;

std::int32_t* ints(const Ints& array) { return reinterpret_cast<std::int32_t*>(array.data); }
float* floats(const Floats& array) { return reinterpret_cast<float*>(array.data); }
float* float_row(const Matrix& matrix, std::int64_t row) {
  return reinterpret_cast<float*>(matrix.data) + row * matrix.stride;
}
std::byte* row_at(const Matrix& matrix, std::int64_t row) {
  return matrix.data + row * matrix.stride * static_cast<std::int64_t>(core::size_of(matrix.dtype));
}

/// The score as it is compared: what is no number is the lowest of all.
float comparable(float score) { return score == score ? score : -std::numeric_limits<float>::infinity(); }

/// The best expert behind `last` in the order of falling scores and rising indices; -1 for `last`: of all.
std::int32_t next_best(const float* scores, std::int32_t experts, std::int32_t last) {
  std::int32_t best = -1;
  for (std::int32_t e = 0; e < experts; ++e) {
    const float score = comparable(scores[e]);
    if (last >= 0) {
      const float limit = comparable(scores[last]);
      if (score > limit || (score == limit && e <= last)) continue;
    }
    if (best < 0 || score > comparable(scores[best])) best = e;
  }
  return best;
}

/// In float64 before it is rounded: float32 libraries differ by an ulp between versions.
float exponential(float x) { return static_cast<float>(std::exp(static_cast<double>(x))); }

void route_row(const RouteArgs& args, std::int64_t row) {
  const float* scores = float_row(args.scores, row);
  const std::int64_t taken = args.per_row + (args.shared ? 1 : 0);
  std::int32_t* chosen = ints(args.chosen) + row * taken;
  float* weights = floats(args.weights) + row * taken;
  std::int32_t last = -1;
  for (std::int32_t rank = 0; rank < args.per_row; ++rank) {
    last = chosen[rank] = next_best(scores, args.experts, last);
  }
  const float highest = comparable(scores[chosen[0]]);
  float total = 0, kept = 0;
  for (std::int32_t e = 0; e < args.experts; ++e) total += exponential(scores[e] - highest);
  for (std::int32_t rank = 0; rank < args.per_row; ++rank) {
    weights[rank] = exponential(scores[chosen[rank]] - highest) / total;
    kept += weights[rank];
  }
  for (std::int32_t rank = 0; args.normalized && rank < args.per_row; ++rank) weights[rank] /= kept;
  if (args.shared) {
    chosen[args.per_row] = args.experts;
    weights[args.per_row] = 1.0f / (1.0f + exponential(-scores[args.experts]));
  }
}

/// The pairs of a row and an expert, sorted by expert. A pair's slot is its row in the scratch matrices.
class Experts {
 public:
  Experts(Compute& compute, Plans& plans, const ExpertsArgs& args)
      : compute_(compute),
        plans_(plans),
        args_(args),
        count_(static_cast<std::int64_t>(args.up.size())),
        pairs_(args.out.rows * args.per_row),
        chosen_(ints(args.chosen)) {}

  void run() {
    check();
    sort();
    for (std::int64_t e = 0; e < count_; ++e) {
      if (first_[e + 1] > first_[e]) check_expert(e);
    }
    check_scratch(args_.gathered, args_.in.dtype, args_.in.cols, "gathered");
    check_scratch(args_.raised, args_.in.dtype, 2 * widest_, "raised");
    check_scratch(args_.gated, args_.in.dtype, widest_, "gated");
    check_scratch(args_.lowered, DType::kF32, args_.in.cols, "lowered");
    gather();
    multiply(args_.up, args_.gathered, args_.raised);
    activate();
    multiply(args_.down, args_.gated, args_.lowered);
    add_up();
  }

 private:
  void check() {
    const std::int64_t hidden = args_.in.cols;
    require(count_ > 0 && args_.up.size() == args_.down.size() && args_.per_row > 0,
            "experts: {} weights up and {} down, {} for each row", args_.up.size(), args_.down.size(),
            args_.per_row);
    require(args_.chosen.size >= pairs_ && args_.weights.size >= pairs_ &&
                args_.order.size >= pairs_ + count_ + 1,
            "experts: {} choices, {} weights and an order of {} for {} rows with {} of {} experts each",
            args_.chosen.size, args_.weights.size, args_.order.size, args_.out.rows, args_.per_row, count_);
    require(args_.in.dtype == DType::kF32 || args_.in.dtype == DType::kBF16, "experts: activations in {}",
            core::to_string(args_.in.dtype));
    require(args_.in.rows >= args_.out.rows, "experts: {} rows from {}", args_.out.rows, args_.in.rows);
    for (const Matrix* matrix : {&args_.residual, &args_.out}) {
      require(matrix->dtype == DType::kF32 && matrix->cols == hidden && matrix->rows >= args_.out.rows,
              "experts: the residual and what comes out must be float32, {} x {}", args_.out.rows, hidden);
    }
    for (std::int64_t pair = 0; pair < pairs_; ++pair) {
      require(chosen_[pair] >= 0 && chosen_[pair] < count_, "experts: expert {} of {}", chosen_[pair],
              count_);
    }
    first_ = ints(args_.order);
    slots_ = first_ + count_ + 1;
  }

  void check_expert(std::int64_t e) {
    const auto index = static_cast<std::size_t>(e);
    const auto* up = dynamic_cast<const CpuWeight*>(args_.up[index].get());
    const auto* down = dynamic_cast<const CpuWeight*>(args_.down[index].get());
    require(up != nullptr && down != nullptr, "experts: expert {} lacks a weight", e);
    require(up->rows() == 2 * down->cols() && up->cols() == args_.in.cols && down->rows() == args_.in.cols,
            "experts: expert {} goes up by {} x {} and down by {} x {}, from and to {} columns", e,
            up->rows(), up->cols(), down->rows(), down->cols(), args_.in.cols);
    widest_ = std::max(widest_, down->cols());
  }

  void check_scratch(const Matrix& matrix, DType dtype, std::int64_t cols, const char* name) const {
    require(matrix.dtype == dtype && matrix.rows >= pairs_ && matrix.cols >= cols,
            "experts: {} is {} x {} of {} and must be {} x {} of {}", name, matrix.rows, matrix.cols,
            core::to_string(matrix.dtype), pairs_, cols, core::to_string(dtype));
  }

  void sort() {
    std::fill_n(first_, count_ + 1, 0);
    for (std::int64_t pair = 0; pair < pairs_; ++pair) ++first_[chosen_[pair] + 1];
    for (std::int64_t e = 0; e < count_; ++e) first_[e + 1] += first_[e];
    // Counts each expert's begin up to its end, which is the next one's begin, and back.
    for (std::int64_t pair = 0; pair < pairs_; ++pair) slots_[pair] = first_[chosen_[pair]]++;
    std::copy_backward(first_, first_ + count_, first_ + count_ + 1);
    first_[0] = 0;
  }

  void gather() {
    const std::int64_t hidden = args_.in.cols;
    compute_.for_each(pairs_, pairs_ * hidden > kWorthThreads, [&](std::int64_t pair, int) {
      std::memcpy(row_at(args_.gathered, slots_[pair]), row_at(args_.in, pair / args_.per_row),
                  static_cast<std::size_t>(hidden) * core::size_of(args_.in.dtype));
    });
  }

  /// Each expert's slots times its weight.
  void multiply(std::span<const std::unique_ptr<Weight>> weights, const Matrix& in, const Matrix& out) {
    plans_.products.clear();
    for (std::int64_t e = 0; e < count_; ++e) {
      const std::int64_t rows = first_[e + 1] - first_[e];
      if (rows == 0) continue;
      const Weight* weight = weights[static_cast<std::size_t>(e)].get();
      LinearArgs product;
      product.weight = weight;
      product.in = {row_at(in, first_[e]), in.dtype, rows, weight->cols(), in.stride};
      product.out = {row_at(out, first_[e]), out.dtype, rows, weight->rows(), out.stride};
      plans_.products.push_back(product);
    }
    run_products(compute_, plans_);
  }

  void activate() {
    const std::int64_t pieces = core::ceil_div(widest_, kColumns);
    const GatedTask all = gated_task({args_.activation, args_.raised, args_.gated});
    compute_.for_each(pairs_ * pieces, pairs_ * widest_ > kWorthThreads, [&](std::int64_t item, int) {
      const std::int64_t pair = item / pieces, begin = item % pieces * kColumns;
      GatedTask task = all;
      task.n = args_.down[static_cast<std::size_t>(chosen_[pair])]->cols();
      compute_.kernels().gated(task, slots_[pair], begin, std::min(task.n, begin + kColumns));
    });
  }

  void add_up() {
    const std::int64_t hidden = args_.in.cols, pieces = core::ceil_div(hidden, kColumns);
    compute_.for_each(args_.out.rows * pieces, pairs_ * hidden > kWorthThreads, [&](std::int64_t item, int) {
      const std::int64_t row = item / pieces, begin = item % pieces * kColumns;
      const std::int64_t end = std::min(hidden, begin + kColumns);
      for (std::int64_t c = begin; c < end; c += kLanes) add_up(row, c, std::min(kLanes, end - c));
    });
  }

  /// Columns [column, column + lanes) of a row, lanes <= kLanes.
  void add_up(std::int64_t row, std::int64_t column, std::int64_t lanes) const {
    float sums[kLanes] = {};
    for (std::int64_t pair = row * args_.per_row; pair < (row + 1) * args_.per_row; ++pair) {
      const float weight = floats(args_.weights)[pair];
      const float* from = float_row(args_.lowered, slots_[pair]) + column;
      // The same arithmetic; the loop of a known length becomes vector instructions.
      if (lanes == kLanes) {
        for (std::int64_t i = 0; i < kLanes; ++i) sums[i] += weight * from[i];
      } else {
        for (std::int64_t i = 0; i < lanes; ++i) sums[i] += weight * from[i];
      }
    }
    const float* residual = float_row(args_.residual, row) + column;
    float* out = float_row(args_.out, row) + column;
    for (std::int64_t i = 0; i < lanes; ++i) out[i] = residual[i] + sums[i];
  }

  Compute& compute_;
  Plans& plans_;
  const ExpertsArgs& args_;
  std::int64_t count_;
  std::int64_t pairs_;
  std::int64_t widest_ = 0;  ///< Of the chosen ones.
  const std::int32_t* chosen_;
  std::int32_t* first_ = nullptr;  ///< First slot of each expert; one more at the end.
  std::int32_t* slots_ = nullptr;  ///< Of each pair.
};

}  // namespace

void run(Compute& compute, const RouteArgs& args) {
  const std::int64_t rows = args.scores.rows, extra = args.shared ? 1 : 0;
  require(args.per_row > 0 && args.per_row <= args.experts, "route: {} of {} experts", args.per_row,
          args.experts);
  require(args.scores.dtype == DType::kF32 && args.scores.cols == args.experts + extra,
          "route: {} columns of {} for {} experts and {} shared", args.scores.cols,
          core::to_string(args.scores.dtype), args.experts, extra);
  require(
      args.chosen.size >= rows * (args.per_row + extra) && args.weights.size >= rows * (args.per_row + extra),
      "route: {} choices and {} weights for {} rows of {}", args.chosen.size, args.weights.size, rows,
      args.per_row + extra);
  // An exponential takes about as long as 16 ordinary elements.
  compute.for_each(rows, rows * args.experts * 16 > kWorthThreads,
                   [&](std::int64_t row, int) { route_row(args, row); });
}

void run(Compute& compute, Plans& plans, const ExpertsArgs& args) { Experts(compute, plans, args).run(); }

}  // namespace peregrine::ops::cpu
