// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "model/decoder.h"
#include "ops/device.h"
#include "support/oracle.h"

namespace peregrine::testing {

/// The oracle of the golden model `fixture` with matrices rounded to `matrices`; `adjust` may change what its
/// config.json says.
Oracle golden_oracle(const std::string& fixture, core::DType matrices,
                     const std::function<void(model::DecoderConfig&)>& adjust = {});

/// A named shape with random bfloat16 weights (see model/random_models.h), made once for the oracle and for
/// every device.
class RandomModel {
 public:
  RandomModel(std::string_view spec, std::uint64_t seed);
  ~RandomModel();

  Oracle oracle(core::DType matrices = core::DType::kBF16);
  /// On a device; all in bfloat16 unless said otherwise.
  std::unique_ptr<model::Decoder> load(ops::Device& device, const model::DecoderTypes& types = kAllBfloat16);

  static constexpr model::DecoderTypes kAllBfloat16 = {core::DType::kBF16, core::DType::kBF16,
                                                       core::DType::kBF16};

 private:
  const model::Family* family_ = nullptr;
  model::DecoderConfig config_;
  std::unique_ptr<weights::TensorSource> source_;
};

/// The id of the largest logit in a row of them; the lowest one of several.
std::int32_t top_id(const Rows& logits, std::int64_t row);

/// The logits of all positions from one prefill of `tokens` on a device: [tokens.size(), vocab].
Rows device_logits(ops::Device& device, const model::Decoder& decoder, std::span<const std::int32_t> tokens,
                   std::int64_t prompt_tokens);

}  // namespace peregrine::testing
