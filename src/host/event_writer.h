// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <string>

#include "channel/host_link.h"
#include "engine/engine.h"

namespace peregrine::host {

/// The numbers of an engine as a message.
void to_message(const engine::EngineStats& stats, channel::wire::Stats& message);

/// Sends what each step gave, one message a step. The message is used again, so that a steady batch allocates
/// nothing.
class EventWriter : public engine::EventSink {
 public:
  /// The arguments must outlive this object.
  EventWriter(channel::HostLink& link, const std::string& model, const engine::Engine& engine);

  void on_step(std::span<const engine::SequenceEvent> events) override;

 private:
  channel::HostLink& link_;
  const std::string& model_;
  const engine::Engine& engine_;
  channel::wire::FromHost message_;
};

}  // namespace peregrine::host
