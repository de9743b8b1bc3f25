// SPDX-License-Identifier: Apache-2.0
#include "hosts/echo/echo_encoder.h"

#include <algorithm>

#include "core/error.h"

namespace peregrine::echo {
namespace {

using core::ErrorKind;
using core::fail;

/// So few that every vector comes in pieces.
constexpr int kPiece = 5;

float value_at(const wire::Submit& text, int i) {
  const int at = i % text.prompt_ids_size();
  float value = static_cast<float>(text.prompt_ids(at));
  if (!text.token_types().empty()) value += static_cast<float>(text.token_types(at));
  if (text.kind() == wire::CLASSIFY) value += 0.5f;
  if (text.normalize()) value += 0.125f;
  return value + 0.25f * static_cast<float>(text.pooling());
}

}  // namespace

void EchoEncoder::submit(const wire::Submit& submit) {
  if (submit.kind() != wire::EMBED && submit.kind() != wire::CLASSIFY) {
    fail(ErrorKind::kUnsupported,
         "requests of kind {} are not supported; this host embeds (1) and classifies",
         static_cast<int>(submit.kind()));
  }
  if (submit.prompt_ids_size() < 1 || submit.prompt_ids_size() > options_.max_model_len) {
    fail(ErrorKind::kInvalidArgument, "the text has {} tokens; allowed is 1 to {}", submit.prompt_ids_size(),
         options_.max_model_len);
  }
  waiting_.push_back(submit);
}

void EchoEncoder::cancel(std::uint64_t request) {
  std::erase_if(waiting_, [&](const wire::Submit& text) { return text.request() == request; });
}

void EchoEncoder::step(const std::function<void(const wire::FromHost&)>& send) {
  ++steps_;
  for (int i = 0; i < options_.max_sequences && !waiting_.empty(); ++i) {
    const wire::Submit text = std::move(waiting_.front());
    waiting_.pop_front();
    tokens_ += static_cast<std::uint64_t>(text.prompt_ids_size());
    const int size = text.kind() == wire::EMBED ? options_.embedding_size : options_.labels;
    for (int begin = 0; begin < size; begin += kPiece) {
      wire::FromHost message;
      wire::Result& result = *message.mutable_result();
      result.set_model(name_);
      result.set_request(text.request());
      const int end = std::min(begin + kPiece, size);
      for (int k = begin; k < end; ++k) result.add_values(value_at(text, k));
      result.set_last(end == size);
      send(message);
    }
  }
  wire::FromHost message;
  message.mutable_events()->set_model(name_);
  stats(*message.mutable_events()->mutable_stats());
  send(message);
}

void EchoEncoder::stats(wire::Stats& stats) const {
  stats.set_model(name_);
  stats.set_steps(steps_);
  stats.set_prefill_tokens(tokens_);
  stats.set_waiting(static_cast<std::int32_t>(waiting_.size()));
}

}  // namespace peregrine::echo
