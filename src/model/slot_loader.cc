// SPDX-License-Identifier: Apache-2.0
#include "model/slot_loader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/float16.h"
#include "weights/finite.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;
using weights::StoredTensor;

/// The rows of one part as strided views, one for each run (or one for all, where they adjoin).
void append_runs(const StoredTensor& tensor, const Part& part, bool transposed,
                 std::vector<ops::HostMatrix>& out) {
  const std::int64_t width = part.tensor_shape.size() == 2 ? part.tensor_shape[1] : 1;
  const std::int64_t cols = transposed ? part.tensor_shape[0] : width;
  RowRuns runs = part.rows;
  if (runs.step == runs.run) runs = {runs.first, runs.run * runs.count, runs.run * runs.count, 1};
  for (std::int64_t i = 0; i < runs.count; ++i) {
    const std::int64_t row = runs.first + i * runs.step;
    const auto offset = static_cast<std::size_t>(transposed ? row : row * width);
    out.push_back({tensor.data.data() + offset * core::size_of(tensor.dtype), tensor.dtype, runs.run, cols,
                   transposed ? 1 : width, transposed ? width : 1});
  }
}

float element(const std::byte* data, DType dtype) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, data, sizeof value);
      return value;
    }
    case DType::kF16: {
      core::Float16 value;
      std::memcpy(&value, data, sizeof value);
      return core::to_float(value);
    }
    default: {
      core::BFloat16 value;
      std::memcpy(&value, data, sizeof value);
      return core::to_float(value);
    }
  }
}

}  // namespace

SlotPlace matrix_place(std::unique_ptr<ops::Weight>& weight, std::int64_t rows, std::int64_t cols) {
  SlotPlace out;
  out.shape = {rows, cols};
  out.matrix = &weight;
  return out;
}

SlotPlace table_place(std::unique_ptr<ops::Weight>& weight, std::int64_t rows, std::int64_t cols) {
  SlotPlace out = matrix_place(weight, rows, cols);
  out.use = ops::WeightUse::kRows;
  return out;
}

SlotPlace vector_place(Vector& target, std::int64_t size) {
  SlotPlace out;
  out.shape = {size, 0};
  out.vector = &target;
  return out;
}

SlotLoader::SlotLoader(std::string family, weights::TensorSource& source, ops::Device& device,
                       StoredTypes types)
    : family_(std::move(family)),
      source_(source),
      device_(device),
      types_(types),
      stream_(device.create_stream()) {}

void SlotLoader::add(SlotSource slot, const SlotPlace& place) {
  Job job{std::move(slot), place, 0};
  check(job);
  total_ += job.bytes;
  jobs_.push_back(std::move(job));
}

Vector SlotLoader::upload(std::span<const float> values) {
  Vector out{device_.allocate(values.size_bytes()), static_cast<std::int64_t>(values.size())};
  stream_->upload(out.buffer.address(), values.data(), values.size_bytes());
  stream_->wait(stream_->record());
  return out;
}

void SlotLoader::run(const LoadProgress& progress) {
  std::uint64_t done = 0;
  if (progress) progress(0, total_);
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    // The disk works on the next slot while this one is packed.
    if (i + 1 < jobs_.size()) {
      for (const auto& part : jobs_[i + 1].source.parts) source_.will_need(part.tensor);
    }
    fill(jobs_[i]);
    done += jobs_[i].bytes;
    if (progress) progress(done, total_);
  }
}

void SlotLoader::check(Job& job) {
  const SlotSource& source = job.source;
  std::int64_t rows = 0;
  for (const auto& part : source.parts) {
    const DType stored = source_.check(part.tensor, part.tensor_shape);
    const std::int64_t part_rows = part.rows.run * part.rows.count;
    rows += part_rows;
    job.bytes += static_cast<std::uint64_t>(part_rows) *
                 static_cast<std::uint64_t>(job.place.shape.cols == 0 ? 1 : job.place.shape.cols) *
                 core::size_of(stored);
    check_part(job, part);
  }
  if (rows != job.place.shape.rows) fail_declaration(job);
}

void SlotLoader::check_part(const Job& job, const Part& part) const {
  const bool is_matrix = job.place.shape.cols > 0;
  const std::size_t row_dimension = job.source.transposed ? 1 : 0;
  if (part.tensor_shape.size() != (is_matrix ? 2u : 1u) || (!is_matrix && job.source.transposed))
    fail_declaration(job);
  if (is_matrix && part.tensor_shape[1 - row_dimension] != job.place.shape.cols) fail_declaration(job);
  const RowRuns& runs = part.rows;
  const std::int64_t end = runs.first + (runs.count - 1) * runs.step + runs.run;
  if (runs.first < 0 || runs.run < 1 || runs.count < 1 || runs.step < runs.run ||
      end > part.tensor_shape[row_dimension]) {
    fail_declaration(job);
  }
}

void SlotLoader::fail_declaration(const Job& job) const {
  fail(ErrorKind::kInternal, "family {}: the slot {} is not declared as its shape [{}, {}] needs", family_,
       to_string(job.source.slot), job.place.shape.rows, job.place.shape.cols);
}

void SlotLoader::fill(Job& job) {
  std::vector<const StoredTensor*> tensors;
  std::vector<ops::HostMatrix> runs;
  for (const auto& part : job.source.parts) {
    const StoredTensor& tensor = source_.require(part.tensor, part.tensor_shape);
    if (tensors.empty() || tensors.back() != &tensor) weights::require_finite(tensor);
    tensors.push_back(&tensor);
    append_runs(tensor, part, job.source.transposed, runs);
  }
  if (job.place.matrix != nullptr) {
    *job.place.matrix = device_.pack(runs, types_.of(job.source.slot), job.place.use);
  } else if (job.place.vector != nullptr) {
    *job.place.vector = upload(read_runs(runs, job.place));
  } else {
    *job.place.values = read_runs(runs, job.place);
  }
  // Several parts may come from one tensor.
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i == 0 || tensors[i] != tensors[i - 1]) source_.release(*tensors[i]);
  }
}

std::vector<float> SlotLoader::read_runs(std::span<const ops::HostMatrix> runs, const SlotPlace& place) {
  std::vector<float> values;
  const std::int64_t cols = std::max<std::int64_t>(place.shape.cols, 1);
  values.reserve(static_cast<std::size_t>(place.shape.rows * cols));
  for (const auto& run : runs) {
    for (std::int64_t i = 0; i < run.rows * cols; ++i) {
      const std::int64_t at = i / cols * run.row_stride + i % cols * run.col_stride;
      const float value =
          element(run.data + static_cast<std::size_t>(at) * core::size_of(run.dtype), run.dtype);
      values.push_back(place.scale * (place.offset + value));
    }
  }
  return values;
}

}  // namespace peregrine::model
