// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "numerics/support.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/test_data.h"

// What int8 weights do to one product, on the weights and activations of real layers: how far each element is
// from the exact product of the numbers before they were quantized, beside what the rule of ops/device.h
// implies. Prints both.
//
// A row of largest magnitude m has the scale s = m / 127, and each of its elements moves by at most
// h = s (1/2 + 2^-14): half a step, and the roundings of 127 / m, of the product with it and of s in float32,
// 127 * 4 * 2^-24 steps together. So with x' = x + a and w' = w + b, |a| <= h_x and |b| <= h_w,
//
//     |sum x' w' - sum x w| = |sum (x b + w a + a b)| <= h_w sum |x| + h_x sum |w| + K h_x h_w,
//
// and the exact sum is rounded three times in float32 (to a float, the scales' product, theirs). That is the
// bound. Errors of different elements have little to do with each other: were they uniform and independent,
// of variance s^2 / 12, the error would have the standard deviation
//
//     sqrt(s_w^2 / 12 sum x^2 + s_x^2 / 12 sum w^2 + K s_x^2 s_w^2 / 144),
//
// a random walk's share of the bound, about 1.2 / sqrt(K) of it. The root mean square of the errors in that
// unit must be near 1 (0.96 to 1.02 is what is found): truncation would give more than 2, sums that lose
// something far more, and less than 1 would mean that the numbers were never quantized.

namespace peregrine::testing {
namespace {

constexpr double kLeastSpread8 = 0.9;
constexpr double kMostSpread8 = 1.1;

/// Rows of float32 numbers.
OracleMatrix to_float(const Rows& rows) {
  return {rows.rows, rows.cols, std::vector<float>(rows.values.begin(), rows.values.end())};
}

/// in * weight^T on a device, in int8.
std::vector<float> device_product(ops::Device& device, const OracleMatrix& in, const OracleMatrix& weight) {
  const ops::HostMatrix part{reinterpret_cast<const std::byte*>(weight.values.data()),
                             core::DType::kF32,
                             weight.rows,
                             weight.cols,
                             weight.cols,
                             1};
  const auto packed = device.pack(std::span(&part, 1), core::DType::kI8, ops::WeightUse::kLinear);
  const auto stream = device.create_stream();
  std::vector<float> out(static_cast<std::size_t>(in.rows * weight.rows));
  const ops::Buffer from = device.allocate(in.values.size() * sizeof(float));
  const ops::Buffer to = device.allocate(out.size() * sizeof(float));
  stream->upload(from.address(), in.values.data(), from.size());
  ops::LinearArgs args{};
  args.in = {from.address(), core::DType::kF32, in.rows, in.cols, in.cols};
  args.weight = packed.get();
  args.out = {to.address(), core::DType::kF32, in.rows, weight.rows, weight.rows};
  stream->linear(args);
  stream->download(out.data(), to.address(), to.size());
  stream->wait(stream->record());
  return out;
}

/// What a row's size says of its errors.
struct RowSize {
  double sum = 0.0;      ///< Of magnitudes.
  double squares = 0.0;  ///< Sum of them.
  double step = 0.0;

  RowSize(const float* row, std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i) {
      sum += std::abs(double{row[i]});
      squares += double{row[i]} * row[i];
      step = std::max(step, std::abs(double{row[i]}) / 127.0);
    }
  }
  double half() const { return step * (0.5 + 0x1p-14); }
};

/// The errors of a kind of slot.
struct Errors {
  double largest = 0.0;  ///< Of an element...
  double bound = 0.0;    ///< ... and the largest bound.
  double closest = 0.0;  ///< Largest error as a share of its bound.
  double squares = 0.0;  ///< Of the errors in units of their standard deviation...
  double count = 0.0;    ///< ... and how many.

  double spread() const { return std::sqrt(squares / count); }

  void add(const OracleMatrix& in, const OracleMatrix& weight, const std::vector<float>& found) {
    const auto k = static_cast<double>(in.cols);
    std::vector<RowSize> sizes;
    for (std::int64_t r = 0; r < in.rows; ++r) sizes.emplace_back(in.row(r), in.cols);
    for (std::int64_t n = 0; n < weight.rows; ++n) {
      const RowSize w(weight.row(n), weight.cols);
      for (std::int64_t r = 0; r < in.rows; ++r) {
        const RowSize& x = sizes[static_cast<std::size_t>(r)];
        double exact = 0.0;
        for (std::int64_t i = 0; i < in.cols; ++i) exact += double{in.row(r)[i]} * weight.row(n)[i];
        const double limit = w.half() * x.sum + x.half() * w.sum + k * x.half() * w.half() +
                             0x1p-22 * (std::abs(exact) + x.sum * w.half() + w.sum * x.half());
        const double variance = (w.step * w.step * x.squares + x.step * x.step * w.squares +
                                 k * x.step * x.step * w.step * w.step / 12.0) /
                                12.0;
        const double error = std::abs(found[static_cast<std::size_t>(r * weight.rows + n)] - exact);
        // Not EXPECT_LE(error, limit): NaN must fail.
        EXPECT_TRUE(error <= limit) << "row " << r << ", column " << n << ": off by " << error << ", bound "
                                    << limit;
        largest = std::max(largest, error);
        bound = std::max(bound, limit);
        if (limit > 0.0) closest = std::max(closest, error / limit);
        if (variance > 0.0) {
          squares += error * error / variance;
          count += 1.0;
        }
      }
    }
  }
};

class Products {
 public:
  explicit Products(const std::vector<DeviceCase>& cases) {
    for (const DeviceCase& device : cases) devices_.push_back(device.create());
  }

  void check(const std::string& slot, const Rows& in, const OracleMatrix& weight) {
    SCOPED_TRACE(slot);
    const OracleMatrix rows = to_float(in);
    const std::vector<float> found = device_product(*devices_[0], rows, weight);
    errors_[slot].add(rows, weight, found);
    // Sums are exact, and all the rest is one rounding after the other: there is one result.
    for (std::size_t i = 1; i < devices_.size(); ++i) {
      EXPECT_EQ(device_product(*devices_[i], rows, weight), found) << devices_[i]->description();
    }
  }

  void report(const std::string& model) {
    for (const auto& [slot, errors] : errors_) {
      fmt::print("{:22} {:14} {:11.6f} {:11.6f} {:9.3f} {:8.2f}\n", model, slot, errors.largest, errors.bound,
                 errors.closest, errors.spread());
      EXPECT_GT(errors.spread(), kLeastSpread8) << slot;
      EXPECT_LT(errors.spread(), kMostSpread8) << slot;
    }
    errors_.clear();
  }

 private:
  std::vector<std::unique_ptr<ops::Device>> devices_;
  std::map<std::string, Errors> errors_;
};

/// What an expert's second product is given, for any rows.
Rows expert_hidden(const Oracle& oracle, const Rows& in, const OracleMatrix& up) {
  const std::int64_t width = up.rows / 2;
  Rows out(in.rows, width);
  for (std::int64_t r = 0; r < in.rows; ++r) {
    for (std::int64_t i = 0; i < width; ++i) {
      double gate = 0.0;
      double raised = 0.0;
      for (std::int64_t k = 0; k < in.cols; ++k) {
        gate += in.row(r)[k] * up.row(i)[k];
        raised += in.row(r)[k] * up.row(width + i)[k];
      }
      out.row(r)[i] = oracle_activation(oracle.config().activation, gate) * raised;
    }
  }
  return out;
}

/// Every product of a pass, with the numbers that went into it.
void check_model(const Oracle& oracle, std::span<const std::int32_t> tokens, Products& products) {
  const OracleTrace trace = oracle.forward(tokens, static_cast<std::int64_t>(tokens.size()));
  for (std::int32_t index = 0; index < oracle.config().layers; ++index) {
    const LayerTrace& now = trace.layers[static_cast<std::size_t>(index)];
    const OracleLayer& layer = oracle.layer(index);
    products.check("query-key-value", now.norm1, layer.qkv);
    products.check("attention out", now.attention, layer.attention_out);
    const Rows& mlp_in = now.norm2.rows > 0 ? now.norm2 : now.norm1;
    for (std::size_t e = 0; e < layer.expert_up.size(); ++e) {
      products.check("expert up", mlp_in, layer.expert_up[e]);
      products.check("expert down", expert_hidden(oracle, mlp_in, layer.expert_up[e]), layer.expert_down[e]);
    }
    if (now.hidden.rows == 0) continue;
    products.check("MLP up", mlp_in, layer.up);
    products.check("MLP down", now.hidden, layer.down);
  }
  products.check("output layer", trace.final_norm, oracle.head());
}

void print_header() {
  fmt::print("{:22} {:14} {:>11} {:>11} {:>9} {:>8}\n", "int8 products", "", "largest", "bound", "closest",
             "spread");
}

TEST(Int8Products, OfGoldenModelsStayWithinTheBound) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  Products products(all_devices());
  print_header();
  for (const std::string fixture : {"falcon_7b", "falcon_rw_many_heads", "llama_gqa", "gpt_neox", "qwen2",
                                    "stablelm", "mixtral", "falcon_7b_bf16"}) {
    SCOPED_TRACE(fixture);
    const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kF32);
    for (const auto& prompt : golden.prompts) check_model(oracle, prompt, products);
    products.report(fixture);
  }
}

// Sums of 4,544 and 18,176 terms.
TEST(Int8Products, OfRealWidthStayWithinTheBound) {
  std::vector<DeviceCase> devices = all_devices();
  devices.erase(devices.begin());  // The reference device takes a minute for it.
  Products products(devices);
  print_header();
  RandomModel model("falcon-7b:layers=1,vocab=512", 5);
  const Oracle oracle = model.oracle();
  check_model(oracle, std::vector<std::int32_t>{17, 400, 3}, products);
  products.report("falcon-7b, 1 layer");
}

}  // namespace
}  // namespace peregrine::testing
