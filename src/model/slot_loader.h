// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "model/load_progress.h"
#include "model/slots.h"
#include "model/weights.h"
#include "ops/device.h"
#include "weights/tensor_source.h"

namespace peregrine::model {

/// The shape a slot has in the executor: [rows, cols], or [rows] for vectors (cols = 0).
struct SlotShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

/// Where a slot's weight goes. Exactly one of the three pointers is set.
struct SlotPlace {
  SlotShape shape;
  std::unique_ptr<ops::Weight>* matrix = nullptr;
  Vector* vector = nullptr;
  std::vector<float>* values =
      nullptr;  ///< In host memory, row by row; for what is only read to compute something.
  ops::WeightUse use = ops::WeightUse::kLinear;  ///< Of a matrix.
  // A vector's elements become scale * (offset + element).
  float offset = 0.0f;
  float scale = 1.0f;
};

SlotPlace matrix_place(std::unique_ptr<ops::Weight>& weight, std::int64_t rows, std::int64_t cols);
/// A matrix that is only read row by row.
SlotPlace table_place(std::unique_ptr<ops::Weight>& weight, std::int64_t rows, std::int64_t cols);
SlotPlace vector_place(Vector& target, std::int64_t size);

/// Fills slots from a source: matrices packed in the type of their slot, vectors as float32. All tensors are
/// looked up, and their shapes and types compared, as they are added, before the first is read.
class SlotLoader {
 public:
  /// `family` names the model in messages; `source` and `device` must outlive this.
  SlotLoader(std::string family, weights::TensorSource& source, ops::Device& device, StoredTypes types);

  /// Adds a slot. Throws Error naming tensor, expected and found; kInternal where the family's declaration
  /// does not agree with the shape. What `place` points to must stay until run().
  void add(SlotSource slot, const SlotPlace& place);

  /// Fills all slots. Throws Error(kInvalidArgument) naming a tensor that holds numbers which are not finite.
  void run(const LoadProgress& progress);

  /// A vector that is computed, not stored.
  Vector upload(std::span<const float> values);

 private:
  /// One slot to fill.
  struct Job {
    SlotSource source;
    SlotPlace place;
    std::uint64_t bytes = 0;  ///< As stored, for progress.
  };

  void check(Job& job);
  /// A family's table must agree with its config; anything else is a defect of the family.
  void check_part(const Job& job, const Part& part) const;
  [[noreturn]] void fail_declaration(const Job& job) const;
  void fill(Job& job);
  static std::vector<float> read_runs(std::span<const ops::HostMatrix> runs, const SlotPlace& place);

  std::string family_;
  weights::TensorSource& source_;
  ops::Device& device_;
  StoredTypes types_;
  std::unique_ptr<ops::Stream> stream_;
  std::vector<Job> jobs_;
  std::uint64_t total_ = 0;
};

}  // namespace peregrine::model
