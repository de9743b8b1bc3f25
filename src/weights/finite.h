// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "weights/tensor.h"

namespace peregrine::weights {

/// Index of the first element that is infinite or not a number, in a tensor of float32, float16 or bfloat16;
/// nothing where all are finite, or where the elements are of another type. One pass over the bytes, at
/// memory speed.
std::optional<std::uint64_t> first_non_finite(const StoredTensor& tensor);

/// Throws Error(kDataLoss) naming tensor, file and element where the tensor has such an element: a damaged
/// file would otherwise answer every request with nonsense.
void require_finite(const StoredTensor& tensor);

}  // namespace peregrine::weights
