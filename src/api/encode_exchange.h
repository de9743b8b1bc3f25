// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/encoder_text.h"
#include "api/errors.h"
#include "api/exchange.h"
#include "api/generation_exchange.h"
#include "api/model_text.h"
#include "generation/encode.h"

namespace peregrine::api {

/// Texts of one request; more are refused.
inline constexpr std::size_t kMostTexts = 2048;

/// What came for the texts of a request.
struct EncodeAnswer {
  std::vector<std::vector<float>> vectors;  ///< One for each input.
  std::size_t tokens = 0;                   ///< Of all inputs.
};

/// What a dialect has read from a request for an encoder.
struct EncodePlan {
  generation::EncodeKind kind = generation::EncodeKind::kEmbed;
  generation::Pooling pooling = generation::Pooling::kMean;
  bool normalize = true;
  std::vector<EncodeInput> inputs;  ///< One or more.
  ErrorStyle error_style = ErrorStyle::kInference;
  /// Writes the answer, which is application/json.
  std::function<void(EncodeAnswer& answer, std::string& body)> write;
};

/// Has a plan's texts encoded, each as a request of its own, as many at a time as fill the model's batch;
/// those behind wait here, so that a long list does not fill the queue. Where one fails, the whole answer
/// does. `log` is kept up to date. Throws what Model::encode throws for the first text.
std::unique_ptr<Exchange> start_encoding(const ServedModel& model, EncodePlan plan,
                                         std::shared_ptr<RequestLog> log, std::function<void()> wake);

}  // namespace peregrine::api
