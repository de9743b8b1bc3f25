// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Makes log-probabilities of what the other processors left (transformers' LogitNormalization). The scores
/// of beams are sums of these then. In sampling, where transformers does it last of all, it changes nothing
/// but roundings.
class Renormalize : public LogitsProcessor {
 public:
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;
};

}  // namespace peregrine::decoding
