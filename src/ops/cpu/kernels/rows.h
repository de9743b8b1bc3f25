// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: operations that treat each row by itself.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// Sum of function(16 lanes) over a row: one vector of partial sums over ascending columns, then the fixed
/// tree of reduce(). `function` gets a vector and must map lanes behind the row's end (which hold `fill`) to
/// 0.
template <typename Function>
PEREGRINE_INLINE float sum_row(const float* row, std::int64_t width, float fill, Function function) {
  Vector sum = zero();
  std::int64_t i = 0;
  for (; i + 16 <= width; i += 16) sum = function(sum, load(row + i));
  if (i < width) {
    const std::int64_t lanes = width - i;
    sum = function(sum, select(first_lanes(lanes), load_lanes(row + i, lanes), splat(fill)));
  }
  return sum_lanes(sum);
}

void norm(const NormTask& task, std::int64_t row) {
  const std::int64_t source = task.row_index != nullptr ? task.row_index[row] : row;
  const float* in = task.in + source * task.in_stride;
  std::byte* out = task.out + row * task.out_stride * bytes_of(task.out_type);
  const float count = static_cast<float>(task.width);
  float mean = 0;
  if (!task.rms) {
    mean = sum_row(in, task.width, 0.0f, [](Vector sum, Vector x) PEREGRINE_LAMBDA { return add(sum, x); }) /
           count;
  }
  const Vector center = splat(mean);
  const float squares = sum_row(in, task.width, mean, [center](Vector sum, Vector x) PEREGRINE_LAMBDA {
    const Vector distance = sub(x, center);
    return fma(distance, distance, sum);
  });
  const Vector factor = div(splat(1.0f), sqrt(splat(squares / count + task.epsilon)));
  for (std::int64_t i = 0; i < task.width; i += 16) {
    const std::int64_t lanes = task.width - i < 16 ? task.width - i : 16;
    Vector x = mul(sub(load_lanes(in + i, lanes), center), factor);
    x = mul(x, load_lanes(task.weight + i, lanes));
    if (task.bias != nullptr) x = add(x, load_lanes(task.bias + i, lanes));
    if (task.residual != nullptr)
      x = add(x, load_lanes(task.residual + row * task.residual_stride + i, lanes));
    store_as(task.out_type, out + i * bytes_of(task.out_type), x, lanes);
  }
}

void gated(const GatedTask& task, std::int64_t row, std::int64_t begin, std::int64_t end) {
  const std::int64_t in_bytes = bytes_of(task.in_type), out_bytes = bytes_of(task.out_type);
  const std::byte* gate = task.in + row * task.in_stride * in_bytes;
  const std::byte* up = gate + task.n * in_bytes;
  std::byte* out = task.out + row * task.out_stride * out_bytes;
  for (std::int64_t i = begin; i < end; i += 16) {
    const std::int64_t lanes = end - i < 16 ? end - i : 16;
    const Vector x = activate(task.activation, load_as(task.in_type, gate + i * in_bytes, lanes));
    store_as(task.out_type, out + i * out_bytes, mul(x, load_as(task.in_type, up + i * in_bytes, lanes)),
             lanes);
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
