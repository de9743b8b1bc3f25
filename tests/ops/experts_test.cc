// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "ops/support.h"

namespace peregrine::ops::testing {
namespace {

struct Routing {
  std::int32_t experts = 8;
  std::int32_t per_row = 2;
  bool normalized = true;
  bool shared = false;

  std::int64_t columns() const { return experts + (shared ? 1 : 0); }
  std::int64_t taken() const { return per_row + (shared ? 1 : 0); }
};

struct Choice {
  std::vector<std::int32_t> chosen;
  std::vector<float> weights;
};

class RouteTest : public DeviceTest {
 protected:
  Choice run(const Routing& routing, const HostData& scores) {
    const auto size = static_cast<std::size_t>(scores.rows * routing.taken());
    // One more of each, which nobody may touch.
    const Ints chosen = make_array(std::vector<std::int32_t>(size + 1, -7));
    const Floats weights = make_array(std::vector<float>(size + 1, -7.0f));
    const DeviceMatrix in = make_matrix(scores, 3);
    stream_->route(
        {in, routing.experts, routing.per_row, routing.normalized, routing.shared, chosen, weights});
    Choice made{std::vector<std::int32_t>(size + 1), std::vector<float>(size + 1)};
    stream_->download(made.chosen.data(), chosen.data, (size + 1) * sizeof(std::int32_t));
    stream_->download(made.weights.data(), weights.data, (size + 1) * sizeof(float));
    finish();
    EXPECT_EQ(made.chosen.back(), -7);
    EXPECT_EQ(made.weights.back(), -7.0f);
    made.chosen.pop_back();
    made.weights.pop_back();
    return made;
  }

  /// The best experts of one row: by falling scores and rising indices.
  static std::vector<std::int32_t> best(const Routing& routing, const HostData& scores, std::int64_t row) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(routing.experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) { return scores.at(row, a) > scores.at(row, b); });
    order.resize(static_cast<std::size_t>(routing.per_row));
    return order;
  }

  /// Bound: each exponential 4 u and its argument's rounding, their sum, one or two divisions.
  void check(const Routing& routing, const HostData& scores) {
    const Choice found = run(routing, scores);
    std::vector<std::int32_t> chosen;
    std::vector<Expected> weights;
    for (std::int64_t row = 0; row < scores.rows; ++row) {
      double total = 0, kept = 0, spread = 0;
      const std::vector<std::int32_t> order = best(routing, scores, row);
      const double highest = scores.at(row, order[0]);
      for (std::int32_t e = 0; e < routing.experts; ++e) {
        total += std::exp(scores.at(row, e) - highest);
        spread = std::max(spread, highest - scores.at(row, e));
      }
      for (const std::int32_t e : order) kept += std::exp(scores.at(row, e) - highest) / total;
      for (const std::int32_t e : order) {
        const double value =
            std::exp(scores.at(row, e) - highest) / total / (routing.normalized ? kept : 1.0);
        chosen.push_back(e);
        weights.push_back({value, value * (12 + 2 * std::min(spread, 90.0) + routing.experts) * kUnit32});
      }
      if (routing.shared) {
        const double value = 1 / (1 + std::exp(-double{scores.at(row, routing.experts)}));
        chosen.push_back(routing.experts);
        weights.push_back({value, 8 * kUnit32 * value});
      }
    }
    EXPECT_EQ(found.chosen, chosen);
    expect_within(found.weights, weights, "weights of " + std::to_string(routing.experts) + " experts");
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, RouteTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(RouteTest, ChoosesAndWeighsTheBest) {
  for (const bool normalized : {true, false}) {
    for (const bool shared : {true, false}) {
      for (const auto& [experts, per_row] :
           {std::pair{8, 2}, std::pair{60, 4}, std::pair{128, 8}, std::pair{5, 5}, std::pair{1, 1}}) {
        const Routing routing{experts, per_row, normalized, shared};
        for (const std::int64_t rows : {0, 1, 33}) {
          check(routing, random_data(random_, rows, routing.columns(), DType::kF32, 2.0f));
        }
      }
    }
  }
}

TEST_P(RouteTest, TiesGoToTheLowerIndex) {
  std::uniform_int_distribution<int> digits(0, 2);
  for (const Routing& routing : {Routing{8, 2}, Routing{16, 7, false}, Routing{60, 4, false, true}}) {
    HostData scores = random_data(random_, 50, routing.columns(), DType::kF32);
    for (float& score : scores.values) score = static_cast<float>(digits(random_));
    check(routing, scores);
    // Zeros of either sign are equal.
    for (float& score : scores.values) score = digits(random_) == 0 ? -0.0f : 0.0f;
    check(routing, scores);
  }
}

TEST_P(RouteTest, FarApartScoresDoNotOverflow) {
  HostData scores = random_data(random_, 20, 9, DType::kF32, 40.0f);
  scores.at(3, 4) = 3e38f;
  scores.at(4, 4) = -3e38f;
  scores.at(5, 8) = 1e4f;
  scores.at(6, 8) = -1e3f;
  check({8, 2, false, true}, scores);
}

// Whatever a router's activations have become: indices stay in range, each once.
TEST_P(RouteTest, NotANumberIsNeverAnIndex) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN(), kMost = INFINITY;
  const HostData scores{
      DType::kF32, 5, 4, {kNone,  kNone,  kNone, kNone, kNone, 1.0f,   kNone, 2.0f,   -kMost, kNone,
                          -kMost, -kMost, kMost, kNone, kMost, -kMost, 0.0f,  -kMost, kNone,  kNone}};
  const Choice found = run({4, 3, true}, scores);
  EXPECT_EQ(found.chosen, (std::vector<std::int32_t>{0, 1, 2, 3, 1, 0, 0, 1, 2, 0, 2, 1, 0, 1, 2}));
  const Choice shared = run({3, 3, false, true}, scores);
  for (std::size_t row = 0; row < 5; ++row) {
    EXPECT_EQ(std::set<std::int32_t>(shared.chosen.begin() + row * 4, shared.chosen.begin() + row * 4 + 4),
              (std::set<std::int32_t>{0, 1, 2, 3}));
    EXPECT_EQ(shared.chosen[row * 4 + 3], 3);
  }
}

TEST_P(RouteTest, RowsDoNotDependOnTheirNumber) {
  const Routing routing{60, 4, true, true};
  const HostData scores = random_data(random_, 100, routing.columns(), DType::kF32);
  const Choice all = run(routing, scores);
  for (std::int64_t row = 0; row < scores.rows; row += 9) {
    const auto begin = scores.values.begin() + row * scores.cols;
    const Choice alone =
        run(routing, {DType::kF32, 1, scores.cols, std::vector<float>(begin, begin + scores.cols)});
    EXPECT_TRUE(std::equal(alone.chosen.begin(), alone.chosen.end(), all.chosen.begin() + row * 5));
    EXPECT_TRUE(std::equal(alone.weights.begin(), alone.weights.end(), all.weights.begin() + row * 5));
  }
}

TEST_P(RouteTest, RefusesWhatDoesNotFit) {
  const DeviceMatrix scores = make_matrix(random_data(random_, 3, 8, DType::kF32));
  const Ints chosen = make_array(std::vector<std::int32_t>(6));
  const Floats weights = make_array(std::vector<float>(6));
  stream_->route({scores, 8, 9, true, false, chosen, weights});
  expect_failure("9 of 8 experts");
  stream_->route({scores, 8, 0, true, false, chosen, weights});
  expect_failure("0 of 8 experts");
  stream_->route({scores, 8, 2, true, true, chosen, weights});
  expect_failure("route");
  stream_->route({scores, 8, 3, true, false, chosen, weights});
  expect_failure("route");
}

/// Experts of different widths.
struct Mixture {
  std::int64_t hidden = 48;
  std::vector<std::int64_t> widths = {32, 32, 37, 32, 80};
  std::int32_t per_row = 2;
  DType compute = DType::kF32;
  DType stored = DType::kF32;
  Activation activation = Activation::kSilu;
};

class ExpertsTest : public DeviceTest {
 protected:
  void make_experts(const Mixture& mixture) {
    up_data_.clear();
    down_data_.clear();
    for (const std::int64_t width : mixture.widths) {
      const auto raise = static_cast<float>(1 / std::sqrt(static_cast<double>(mixture.hidden)));
      const auto lower = static_cast<float>(1 / std::sqrt(static_cast<double>(width)));
      up_data_.push_back(random_data(random_, 2 * width, mixture.hidden, mixture.stored, raise));
      down_data_.push_back(random_data(random_, mixture.hidden, width, mixture.stored, lower));
    }
    pack_experts(mixture);
  }

  void pack_experts(const Mixture& mixture) {
    up_.clear();
    down_.clear();
    for (std::size_t e = 0; e < up_data_.size(); ++e) {
      up_.push_back(pack(up_data_[e], mixture.stored));
      down_.push_back(pack(down_data_[e], mixture.stored));
    }
  }

  /// The same experts on a device of their own.
  void use_threads(const Mixture& mixture, int threads) {
    up_.clear();
    down_.clear();
    arrays_.clear();
    stream_.reset();
    device_ = DeviceCase{GetParam().name, GetParam().isa, threads}.create();
    stream_ = device_->create_stream();
    pack_experts(mixture);
  }

  /// Each row's choice at random, no expert twice.
  Choice random_choice(const Mixture& mixture, std::int64_t rows) {
    Choice made;
    std::vector<std::int32_t> experts(mixture.widths.size());
    std::iota(experts.begin(), experts.end(), 0);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::shuffle(experts.begin(), experts.end(), random_);
      made.chosen.insert(made.chosen.end(), experts.begin(), experts.begin() + mixture.per_row);
    }
    made.weights = random_data(random_, rows, mixture.per_row, DType::kF32, 0.5f, 0.5f).values;
    return made;
  }

  struct Scratch {
    Ints order;
    DeviceMatrix gathered, raised, gated, lowered;
  };

  Scratch make_scratch(const Mixture& mixture, std::int64_t rows) {
    const std::int64_t pairs = rows * mixture.per_row;
    const std::int64_t widest = *std::max_element(mixture.widths.begin(), mixture.widths.end());
    return {
        make_array(std::vector<std::int32_t>(static_cast<std::size_t>(pairs) + mixture.widths.size() + 1)),
        make_matrix(pairs, mixture.hidden, mixture.compute, 1),
        make_matrix(pairs, 2 * widest, mixture.compute, 2), make_matrix(pairs, widest, mixture.compute, 3),
        make_matrix(pairs, mixture.hidden, DType::kF32, 4)};
  }

  ExpertsArgs arguments(const Mixture& mixture, const Choice& choice, const Scratch& scratch) {
    ExpertsArgs args{};
    args.up = up_;
    args.down = down_;
    args.activation = mixture.activation;
    args.per_row = mixture.per_row;
    args.chosen = make_array(choice.chosen);
    args.weights = make_array(choice.weights);
    args.order = scratch.order;
    args.gathered = scratch.gathered;
    args.raised = scratch.raised;
    args.gated = scratch.gated;
    args.lowered = scratch.lowered;
    return args;
  }

  std::vector<float> run(const Mixture& mixture, const Choice& choice, const HostData& in,
                         const HostData& residual, bool in_place = false) {
    const Scratch scratch = make_scratch(mixture, in.rows);
    ExpertsArgs args = arguments(mixture, choice, scratch);
    const DeviceMatrix input = make_matrix(in, 3), added = make_matrix(residual, 1);
    const DeviceMatrix out = make_matrix(in.rows, mixture.hidden, DType::kF32, 5);
    args.in = input;
    args.residual = added;
    args.out = in_place ? added : out;
    stream_->experts(args);
    EXPECT_EQ(read(input).values, in.values) << "the input was written to";
    if (!in_place) {
      EXPECT_EQ(read(added).values, residual.values) << "the residual was written to";
    }
    for (const DeviceMatrix* matrix :
         {&scratch.gathered, &scratch.raised, &scratch.gated, &scratch.lowered}) {
      read(*matrix);  // the gaps
    }
    return read(in_place ? added : out).values;
  }

  /// A sum of products of inexact numbers and exact ones.
  static Expected product(const std::vector<Expected>& x, const HostData& weight, std::int64_t row) {
    Expected sum;
    double magnitude = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const double w = weight.at(row, static_cast<std::int64_t>(k));
      sum.value += x[k].value * w;
      sum.error += x[k].error * std::abs(w);
      magnitude += (std::abs(x[k].value) + x[k].error) * std::abs(w);
    }
    sum.error += sum_error(static_cast<double>(x.size())) * magnitude;
    return sum;
  }

  static Expected times(const Expected& a, const Expected& b) {
    const double value = a.value * b.value;
    const double error = std::abs(a.value) * b.error + (std::abs(b.value) + b.error) * a.error;
    return {value, error + kUnit32 * (std::abs(value) + error)};
  }

  static Expected activate(Activation activation, const Expected& x) {
    const double value = activation == Activation::kSilu
                             ? x.value / (1 + std::exp(-x.value))
                             : x.value * 0.5 * std::erfc(-x.value / std::sqrt(2.0));
    // Neither is steeper than 1.13.
    return {value, 1.13 * x.error + 8 * kUnit32 * std::abs(x.value)};
  }

  std::vector<Expected> expert(const Mixture& mixture, std::size_t index,
                               const std::vector<Expected>& in) const {
    std::vector<Expected> gated, out;
    const std::int64_t width = mixture.widths[index];
    for (std::int64_t i = 0; i < width; ++i) {
      const Expected gate = product(in, up_data_[index], i).stored_as(mixture.compute);
      const Expected raised = product(in, up_data_[index], width + i).stored_as(mixture.compute);
      gated.push_back(times(activate(mixture.activation, gate), raised).stored_as(mixture.compute));
    }
    for (std::int64_t i = 0; i < mixture.hidden; ++i) out.push_back(product(gated, down_data_[index], i));
    return out;
  }

  std::vector<Expected> oracle(const Mixture& mixture, const Choice& choice, const HostData& in,
                               const HostData& residual) const {
    std::vector<Expected> out;
    for (std::int64_t row = 0; row < in.rows; ++row) {
      std::vector<Expected> input, sums(static_cast<std::size_t>(mixture.hidden));
      for (std::int64_t i = 0; i < mixture.hidden; ++i) input.push_back({in.at(row, i), 0});
      for (std::int64_t pair = row * mixture.per_row; pair < (row + 1) * mixture.per_row; ++pair) {
        const double weight = choice.weights[static_cast<std::size_t>(pair)];
        const auto part =
            expert(mixture, static_cast<std::size_t>(choice.chosen[static_cast<std::size_t>(pair)]), input);
        for (std::size_t i = 0; i < sums.size(); ++i) {
          const Expected term = times({weight, 0}, part[i]);
          sums[i].value += term.value;
          sums[i].error += term.error + 2 * kUnit32 * (std::abs(sums[i].value) + std::abs(term.value));
        }
      }
      for (std::int64_t i = 0; i < mixture.hidden; ++i) {
        Expected sum = sums[static_cast<std::size_t>(i)];
        sum.value += residual.at(row, i);
        sum.error += 2 * kUnit32 * (std::abs(sum.value) + sum.error);
        out.push_back(sum);
      }
    }
    return out;
  }

  void check(const Mixture& mixture, const Choice& choice, std::int64_t rows, bool in_place = false) {
    const HostData in = random_data(random_, rows, mixture.hidden, mixture.compute);
    const HostData residual = random_data(random_, rows, mixture.hidden, DType::kF32);
    expect_within(run(mixture, choice, in, residual, in_place), oracle(mixture, choice, in, residual),
                  std::to_string(rows) + " rows of experts in " + core::to_string(mixture.compute) + " x " +
                      core::to_string(mixture.stored));
  }

  std::vector<std::unique_ptr<Weight>> up_, down_;
  std::vector<HostData> up_data_, down_data_;
};
INSTANTIATE_TEST_SUITE_P(Devices, ExpertsTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(ExpertsTest, EveryTypeWithinItsBound) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const DType stored : {DType::kF32, DType::kF16, DType::kBF16}) {
      Mixture mixture{.compute = compute, .stored = stored};
      make_experts(mixture);
      for (const std::int64_t rows : {1, 2, 7, 33}) check(mixture, random_choice(mixture, rows), rows);
      mixture.activation = Activation::kGelu;
      check(mixture, random_choice(mixture, 3), 3, true);
    }
  }
}

TEST_P(ExpertsTest, OneExpertMayGetAllRowsAndOthersNone) {
  const Mixture mixture{.hidden = 20, .widths = {16, 24, 8, 40, 16, 16}, .per_row = 1};
  make_experts(mixture);
  for (const std::int32_t only : {0, 3, 5}) {
    for (const std::int64_t rows : {1, 7, 33, 700}) {
      Choice choice = random_choice(mixture, rows);
      choice.chosen.assign(choice.chosen.size(), only);
      check(mixture, choice, rows, rows == 7);
    }
  }
}

// As Qwen2-MoE has it: the last expert is everybody's, and wider.
TEST_P(ExpertsTest, SharedExpert) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const Mixture mixture{.hidden = 36,
                          .widths = {16, 16, 16, 16, 16, 16, 16, 16, 70},
                          .per_row = 4,
                          .compute = type,
                          .stored = type};
    make_experts(mixture);
    for (const std::int64_t rows : {1, 2, 7, 33, 300}) {
      Choice choice = random_choice({.widths = {1, 1, 1, 1, 1, 1, 1, 1}, .per_row = 4}, rows);
      for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) choice.chosen[row * 4 + 3] = 8;
      check(mixture, choice, rows);
    }
  }
}

// Nobody forbids to choose an expert twice.
TEST_P(ExpertsTest, TheSameExpertTwice) {
  const Mixture mixture{.per_row = 3};
  make_experts(mixture);
  Choice choice = random_choice(mixture, 2);
  choice.chosen = {1, 4, 1, 2, 2, 2};
  check(mixture, choice, 2);
}

TEST_P(ExpertsTest, NoRowsAreNothing) {
  const Mixture mixture;
  make_experts(mixture);
  check(mixture, {}, 0);
}

// Whoever else chose a row's experts, and how many there are: the row is the same, bit for bit.
TEST_P(ExpertsTest, RowsDoNotDependOnOthersOrThreads) {
  constexpr std::int64_t kRows = 150;
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const DType stored : {DType::kF32, DType::kBF16}) {
      const Mixture mixture{.hidden = 530,
                            .widths = {64, 64, 51, 64, 64, 130},
                            .per_row = 3,
                            .compute = compute,
                            .stored = stored};
      make_experts(mixture);
      const Choice choice = random_choice(mixture, kRows);
      const HostData in = random_data(random_, kRows, mixture.hidden, compute);
      const HostData residual = random_data(random_, kRows, mixture.hidden, DType::kF32);
      const auto some = [&](std::int64_t first, std::int64_t rows) {
        const auto slice = [&](const auto& values, std::int64_t width) {
          return std::decay_t<decltype(values)>(values.begin() + first * width,
                                                values.begin() + (first + rows) * width);
        };
        return run(mixture, {slice(choice.chosen, 3), slice(choice.weights, 3)},
                   {compute, rows, mixture.hidden, slice(in.values, mixture.hidden)},
                   {DType::kF32, rows, mixture.hidden, slice(residual.values, mixture.hidden)});
      };
      use_threads(mixture, 1);
      const std::vector<float> all = some(0, kRows);
      use_threads(mixture, 3);
      EXPECT_EQ(some(0, kRows), all);
      for (const std::int64_t rows : {1, 2, 7, 33, 100}) {
        const std::int64_t first = rows * 31 % (kRows - rows + 1);
        const std::vector<float> part = some(first, rows);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first * mixture.hidden))
            << rows << " rows of " << core::to_string(compute) << " x " << core::to_string(stored);
      }
    }
  }
}

TEST_P(ExpertsTest, RefusesWhatDoesNotFit) {
  const Mixture mixture;
  make_experts(mixture);
  const Choice choice = random_choice(mixture, 2);
  const Scratch scratch = make_scratch(mixture, 2);
  const DeviceMatrix in = make_matrix(random_data(random_, 2, mixture.hidden, DType::kF32));
  const DeviceMatrix out = make_matrix(2, mixture.hidden, DType::kF32);
  const auto refuse = [&](const std::string& text, auto change) {
    ExpertsArgs args = arguments(mixture, choice, scratch);
    args.in = in;
    args.residual = args.out = out;
    change(args);
    stream_->experts(args);
    expect_failure(text);
  };
  refuse("expert 5 of 5", [&](ExpertsArgs& args) { args.chosen = make_array<std::int32_t>({0, 1, 5, 2}); });
  refuse("expert -1 of 5", [&](ExpertsArgs& args) { args.chosen = make_array<std::int32_t>({0, 1, 3, -1}); });
  refuse("5 weights up and 4 down", [](ExpertsArgs& args) { args.down = args.down.first(4); });
  refuse("goes up by", [](ExpertsArgs& args) { std::swap(args.up, args.down); });
  refuse("order", [](ExpertsArgs& args) { args.order.size -= 1; });
  refuse("lowered", [](ExpertsArgs& args) { args.lowered.rows -= 1; });
  refuse("raised", [](ExpertsArgs& args) { args.raised.dtype = DType::kBF16; });
  refuse("experts", [](ExpertsArgs& args) { args.weights.size -= 1; });
}

}  // namespace
}  // namespace peregrine::ops::testing
