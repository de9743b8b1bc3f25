// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <span>
#include <utility>

#include "channel/convert.h"
#include "core/error.h"
#include "engine/encoder_engine.h"
#include "host/event_writer.h"
#include "host/served.h"

namespace peregrine::host {
namespace {

namespace wire = channel::wire;
using core::ErrorKind;

/// Values in one message of a result: no other message waits long for its end.
constexpr std::size_t kValuesPerMessage = 16384;

generation::EncodeKind read_kind(wire::RequestKind kind, const std::string& model) {
  if (kind == wire::EMBED) return generation::EncodeKind::kEmbed;
  if (kind == wire::CLASSIFY) return generation::EncodeKind::kClassify;
  core::fail(ErrorKind::kUnsupported, "model {} is an encoder: it embeds or classifies, and does not do {}",
             model, kind == wire::GENERATE ? "generation" : "scoring");
}

generation::Pooling read_pooling(wire::Pooling pooling) {
  switch (pooling) {
    case wire::MEAN:
      return generation::Pooling::kMean;
    case wire::CLS:
      return generation::Pooling::kCls;
    case wire::LAST:
      return generation::Pooling::kLast;
    default:  // An enumeration of proto3 can hold any number.
      core::fail(ErrorKind::kUnsupported, "pooling {} is not known; there are 0 to {}",
                 static_cast<int>(pooling), static_cast<int>(wire::Pooling_MAX));
  }
}

/// An encoder that stands alone.
class ServedEncoder final : public Served {
 public:
  ServedEncoder(std::string name, Session session, const engine::EngineOptions& options,
                channel::HostLink& link)
      : name_(std::move(name)),
        session_(std::move(session)),
        engine_(*session_.device, *session_.model.encoder, options),
        link_(link) {}

  void submit(const wire::Submit& message) override {
    engine::EncodeRequest request;
    request.id = message.request();
    request.kind = read_kind(message.kind(), name_);
    request.ids.assign(message.prompt_ids().begin(), message.prompt_ids().end());
    request.token_types.assign(message.token_types().begin(), message.token_types().end());
    request.pooling = read_pooling(message.pooling());
    request.normalize = message.normalize();
    engine_.submit(std::move(request));
  }
  void cancel(std::uint64_t request) override { engine_.cancel(request); }
  void add_vocabulary(const wire::Vocabulary&) override {}  // Nothing is generated to be stopped.

  void step() override {
    const bool computed =
        engine_.step([this](engine::RequestId id, std::span<const float> values) { send(id, values); });
    if (!computed) return;
    wire::Events& events = *events_.mutable_events();
    events.set_model(name_);
    to_message(engine_.stats(), *events.mutable_stats());
    // Where the server is gone the receiving thread ends the process.
    link_.send(events_);
  }
  bool idle() const override { return engine_.idle(); }
  engine::EngineStats stats() const override { return engine_.stats(); }
  const engine::MemoryPlan& memory_plan() const override { return engine_.memory_plan(); }
  void describe(wire::Loaded& loaded) const override {
    const model::EncoderConfig& config = session_.model.encoder->config();
    loaded.set_vocab_size(config.vocab_size);
    loaded.set_embedding_size(static_cast<std::int32_t>(config.hidden_size));
    loaded.set_labels(static_cast<std::int32_t>(config.head.labels.size()));
  }
  const ops::Device& device() const override { return *session_.device; }

 private:
  void send(engine::RequestId id, std::span<const float> values) {
    wire::Result& result = *result_.mutable_result();
    result.set_model(name_);
    result.set_request(id);
    do {
      const auto part = values.first(std::min(values.size(), kValuesPerMessage));
      values = values.subspan(part.size());
      result.mutable_values()->Assign(part.begin(), part.end());
      result.set_last(values.empty());
      link_.send(result_);
    } while (!values.empty());
  }

  const std::string name_;
  const Session session_;
  engine::EncoderEngine engine_;
  channel::HostLink& link_;
  // Kept for their memory.
  wire::FromHost result_;
  wire::FromHost events_;
};

}  // namespace

std::unique_ptr<Served> serve_encoder(std::string name, Session session, const engine::EngineOptions& options,
                                      channel::HostLink& link) {
  return std::make_unique<ServedEncoder>(std::move(name), std::move(session), options, link);
}

}  // namespace peregrine::host
