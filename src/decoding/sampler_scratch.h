// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "decoding/candidates.h"
#include "decoding/sampler.h"

namespace peregrine::decoding {

struct SamplerScratch::Impl {
  explicit Impl(std::size_t vocab_size);

  Candidates candidates;
  std::vector<float> block_maxima;
  std::vector<std::uint64_t> block_sums;
  std::vector<float> model_logits;  ///< As they were before processors.
};

}  // namespace peregrine::decoding
