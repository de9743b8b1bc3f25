// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "ops/device.h"

// What the weights of every kind of model are made of.

namespace peregrine::model {

/// A float32 vector on the device: the weight or bias of a norm, or the bias of a linear layer. Empty where
/// the model has none.
struct Vector {
  ops::Buffer buffer;
  std::int64_t size = 0;

  ops::Floats floats() const { return {buffer.address(), size}; }
  std::size_t bytes() const { return buffer.size(); }
};

struct Norm {
  Vector weight;
  Vector bias;

  std::size_t bytes() const { return weight.bytes() + bias.bytes(); }
};

struct Linear {
  std::unique_ptr<ops::Weight> weight;
  Vector bias;

  std::size_t bytes() const { return (weight ? weight->bytes() : 0) + bias.bytes(); }
};

}  // namespace peregrine::model
