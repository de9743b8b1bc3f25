// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "support/oracle.h"

namespace peregrine::testing {

/// Derivatives of `directions` outputs by a matrix of values: [rows, directions, cols].
struct Adjoint {
  Adjoint() = default;
  Adjoint(std::int64_t rows, std::int64_t directions, std::int64_t cols)
      : rows(rows),
        directions(directions),
        cols(cols),
        values(static_cast<std::size_t>(rows * directions * cols), 0.0) {}

  double* at(std::int64_t row, std::int64_t direction) {
    return values.data() + (row * directions + direction) * cols;
  }
  const double* at(std::int64_t row, std::int64_t direction) const {
    return values.data() + (row * directions + direction) * cols;
  }

  std::int64_t rows = 0;
  std::int64_t directions = 0;
  std::int64_t cols = 0;
  std::vector<double> values;
};

/// Called for every place of every layer, last to first. `gradients` are the derivatives of the chosen logits
/// by a change of the values at that place alone, everything that follows from it included. Its row 0 belongs
/// to row `first` of the place's values; rows that are left out have no influence.
using PlaceVisitor =
    std::function<void(std::int32_t layer, Place place, std::int64_t first, const Adjoint& gradients)>;

/// Reverse-mode differentiation of an exact pass (Griewank and Walther, Evaluating Derivatives, chapter 3),
/// by hand-written adjoints: derivatives of the logits numbered `logits` at `position` by every value at
/// every place. The derivative by a probability is by exp(score - largest) / sum with the sum held fixed, as
/// a rounded probability changes the products with the values but not the sum. Not for models with experts:
/// which ones a row gets is no smooth function.
void pull_back(const Oracle& oracle, const OracleTrace& trace, std::int64_t position,
               std::span<const std::int32_t> logits, const PlaceVisitor& visit);

}  // namespace peregrine::testing
