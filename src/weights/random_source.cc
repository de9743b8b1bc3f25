// SPDX-License-Identifier: Apache-2.0
#include "weights/random_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "core/float16.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;

constexpr double kDeviation = 0.02;
constexpr std::size_t kQuantiles = 65536;

/// Mixes all bits (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): as a hash
/// of a counter it gives an independent draw for each position.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// FNV-1a over the name, so that every tensor has its own stream.
std::uint64_t stream_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mix(hash ^ mix(seed + 0x9E3779B97F4A7C15u));
}

/// The standard normal distribution's quantiles at (i + 0.5) / 65536. Sixteen random bits then give one
/// number by a look-up, which is what makes a billion of them take seconds; the tails end at 4.3 deviations.
std::vector<float> make_quantiles() {
  std::vector<float> out(kQuantiles);
  double x = 0.0;
  for (std::size_t i = kQuantiles / 2; i < kQuantiles; ++i) {
    const double target = (static_cast<double>(i) + 0.5) / kQuantiles;
    // Newton's method from the quantile before, on the upper tail, where 1 - cdf keeps its digits.
    for (int step = 0; step < 6; ++step) {
      const double tail = 0.5 * std::erfc(x / std::numbers::sqrt2);
      const double density = std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
      x += (tail - (1.0 - target)) / density;
    }
    out[i] = static_cast<float>(x);
    out[kQuantiles - 1 - i] = static_cast<float>(-x);
  }
  return out;
}

const std::vector<float>& quantiles() {
  static const std::vector<float> table = make_quantiles();
  return table;
}

template <typename T>
T convert(float value) {
  if constexpr (sizeof(T) == sizeof(float)) return value;
}

template <>
core::BFloat16 convert<core::BFloat16>(float value) {
  return core::to_bfloat16(value);
}

template <>
core::Float16 convert<core::Float16>(float value) {
  return core::to_float16(value);
}

/// Elements [begin, end) of a tensor's stream; begin is a multiple of 4.
template <typename T>
void fill_range(T* out, const std::vector<T>& table, std::uint64_t stream, std::uint64_t begin,
                std::uint64_t end) {
  for (std::uint64_t i = begin; i < end; i += 4) {
    const std::uint64_t bits = mix(stream + (i / 4 + 1) * 0x9E3779B97F4A7C15u);
    const std::uint64_t count = std::min<std::uint64_t>(4, end - i);
    for (std::uint64_t j = 0; j < count; ++j) out[i + j] = table[(bits >> (16 * j)) & 0xFFFFu];
  }
}

template <typename T>
void fill_typed(std::byte* out, std::uint64_t elements, std::uint64_t stream, double mean,
                core::ThreadPool& pool) {
  std::vector<T> table(kQuantiles);
  const auto& normal = quantiles();
  std::transform(normal.begin(), normal.end(), table.begin(),
                 [mean](float x) { return convert<T>(static_cast<float>(mean + kDeviation * x)); });
  const auto threads = static_cast<std::uint64_t>(pool.size());
  const std::uint64_t share = core::round_up(core::ceil_div(elements, threads), std::uint64_t{4});
  auto* typed = reinterpret_cast<T*>(out);  // from new[]: aligned for every fundamental type
  pool.run([&](int index) {
    const std::uint64_t begin = std::min(elements, share * static_cast<std::uint64_t>(index));
    fill_range(typed, table, stream, begin, std::min(elements, begin + share));
  });
}

}  // namespace

RandomSource::RandomSource(std::uint64_t seed, DType dtype, int threads)
    : seed_(seed), dtype_(dtype), pool_(threads) {
  if (!core::is_weight_float(dtype)) {
    fail(ErrorKind::kUnsupported,
         "random weights of type {} are not supported; use float32, float16 or bfloat16",
         core::to_string(dtype));
  }
}

DType RandomSource::check(std::string_view name, std::span<const std::int64_t> shape) {
  if (!byte_size(shape, dtype_)) {
    fail(ErrorKind::kInvalidArgument, "random tensor {} of shape {} is too large", core::quoted(name, 200),
         shape_text(shape));
  }
  return dtype_;
}

const StoredTensor& RandomSource::require(std::string_view name, std::span<const std::int64_t> shape) {
  check(name, shape);
  const auto found = made_.find(name);
  if (found != made_.end()) {
    const StoredTensor& tensor = found->second.tensor;
    if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
      fail(ErrorKind::kInternal, "random tensor {} was made with shape {}, now {} is wanted",
           core::quoted(name, 200), shape_text(tensor.shape), shape_text(shape));
    }
    return tensor;
  }
  const std::uint64_t bytes = *byte_size(shape, dtype_);
  Made made;
  try {
    made.memory = std::make_unique_for_overwrite<std::byte[]>(bytes);
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::kOverloaded, "no memory for random tensor {} of shape {} ({} bytes)",
         core::quoted(name, 200), shape_text(shape), bytes);
  }
  fill(made.memory.get(), bytes / core::size_of(dtype_), name, shape.size() == 1 && name.ends_with("weight"));
  made.tensor = {std::string(name), dtype_, {shape.begin(), shape.end()}, {made.memory.get(), bytes}, &file_};
  return made_.emplace(std::string(name), std::move(made)).first->second.tensor;
}

void RandomSource::fill(std::byte* out, std::uint64_t elements, std::string_view name, bool around_one) {
  const std::uint64_t stream = stream_of(seed_, name);
  const double mean = around_one ? 1.0 : 0.0;
  switch (dtype_) {
    case DType::kF32:
      fill_typed<float>(out, elements, stream, mean, pool_);
      break;
    case DType::kF16:
      fill_typed<core::Float16>(out, elements, stream, mean, pool_);
      break;
    default:
      fill_typed<core::BFloat16>(out, elements, stream, mean, pool_);
      break;
  }
}

void RandomSource::will_need(std::string_view) {}

void RandomSource::release(const StoredTensor& tensor) {
  const auto found = made_.find(tensor.name);
  if (found != made_.end()) made_.erase(found);
}

}  // namespace peregrine::weights
