// SPDX-License-Identifier: Apache-2.0
#include "decoding/sampler_scratch.h"

#include "core/checked.h"
#include "decoding/softmax.h"

namespace peregrine::decoding {

SamplerScratch::Impl::Impl(std::size_t vocab_size)
    : candidates(vocab_size),
      block_maxima(core::ceil_div(vocab_size, kBlockSize)),
      block_sums(block_maxima.size()),
      model_logits(vocab_size) {}

SamplerScratch::SamplerScratch(std::int64_t vocab_size)
    : impl_(std::make_unique<Impl>(static_cast<std::size_t>(vocab_size))) {}
SamplerScratch::~SamplerScratch() = default;
SamplerScratch::SamplerScratch(SamplerScratch&&) noexcept = default;

}  // namespace peregrine::decoding
