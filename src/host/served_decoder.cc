// SPDX-License-Identifier: Apache-2.0
#include <utility>
#include <vector>

#include "channel/convert.h"
#include "core/error.h"
#include "host/event_writer.h"
#include "host/served.h"

namespace peregrine::host {
namespace {

namespace wire = channel::wire;

engine::Request read_request(const wire::Submit& message) {
  engine::Request request;
  request.id = message.request();
  request.prompt_ids.assign(message.prompt_ids().begin(), message.prompt_ids().end());
  request.encoder_ids.assign(message.encoder_ids().begin(), message.encoder_ids().end());
  request.parameters = channel::from_message(message.sampling());
  request.seed = message.seed();
  for (const auto& list : message.generated()) {
    request.generated.emplace_back(list.ids().begin(), list.ids().end());
  }
  return request;
}

/// A model that generates.
class ServedDecoder final : public Served {
 public:
  ServedDecoder(std::string name, Session session, const engine::EngineOptions& options,
                channel::HostLink& link)
      : name_(std::move(name)),
        session_(std::move(session)),
        engine_(*session_.device, *session_.model.decoder, options, session_.model.encoder.get()),
        writer_(link, name_, engine_) {}

  void submit(const wire::Submit& message) override {
    if (message.kind() != wire::GENERATE) {
      core::fail(core::ErrorKind::kUnsupported, "model {} only generates", name_);
    }
    engine_.submit(read_request(message));
  }
  void cancel(std::uint64_t request) override { engine_.cancel(request); }

  void add_vocabulary(const wire::Vocabulary& piece) override {
    vocabulary_.insert(vocabulary_.end(), piece.tokens().begin(), piece.tokens().end());
    if (!piece.last()) return;
    engine_.set_vocabulary(std::make_shared<const std::vector<std::string>>(std::exchange(vocabulary_, {})));
  }

  void step() override { engine_.step(writer_); }
  bool idle() const override { return engine_.idle(); }
  engine::EngineStats stats() const override { return engine_.stats(); }
  const engine::MemoryPlan& memory_plan() const override { return engine_.memory_plan(); }
  void describe(wire::Loaded& loaded) const override {
    loaded.set_vocab_size(session_.model.decoder->config().vocab_size);
    loaded.set_encoder_decoder(session_.model.encoder != nullptr);
  }
  const ops::Device& device() const override { return *session_.device; }

 private:
  const std::string name_;
  const Session session_;
  engine::Engine engine_;
  EventWriter writer_;
  std::vector<std::string> vocabulary_;  ///< What came of it so far.
};

}  // namespace

std::unique_ptr<Served> serve_decoder(std::string name, Session session, const engine::EngineOptions& options,
                                      channel::HostLink& link) {
  return std::make_unique<ServedDecoder>(std::move(name), std::move(session), options, link);
}

}  // namespace peregrine::host
