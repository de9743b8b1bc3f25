// SPDX-License-Identifier: Apache-2.0
#include "model/arithmetic.h"

#include "core/error.h"

namespace peregrine::model {

using core::DType;
using core::ErrorKind;
using core::fail;

void check_arithmetic(DType weights, DType compute, const ops::Device& device) {
  if (!core::is_weight_float(weights)) {
    fail(ErrorKind::kUnsupported, "weights of type {} are not supported; use float32, float16 or bfloat16",
         core::to_string(weights));
  }
  const bool known = compute == DType::kF32 || compute == DType::kBF16;
  if (!known || !device.supports_compute(compute)) {
    fail(ErrorKind::kUnsupported, "arithmetic in {} is not supported on device {}; use float32{}",
         core::to_string(compute), device.description(),
         device.supports_compute(DType::kBF16) ? " or bfloat16" : "");
  }
}

}  // namespace peregrine::model
