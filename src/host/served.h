// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <cstdint>
#include <memory>
#include <string>

#include "channel/host_link.h"
#include "configuration/model_options.h"
#include "engine/engine.h"
#include "host/session.h"

namespace peregrine::host {

/// A loaded model with its engine, as messages see it. Not thread-safe: the working thread owns it. What the
/// engine gives is sent over the link.
class Served {
 public:
  virtual ~Served() = default;

  /// Begins a request. Throws Error where it cannot be done; nothing else is disturbed.
  virtual void submit(const channel::wire::Submit& message) = 0;
  virtual void cancel(std::uint64_t request) = 0;
  /// A piece of the bytes of the token ids.
  virtual void add_vocabulary(const channel::wire::Vocabulary& piece) = 0;
  /// One step of the engine. Throws Error(kInternal) where it cannot go on.
  virtual void step() = 0;
  virtual bool idle() const = 0;
  virtual engine::EngineStats stats() const = 0;
  virtual const engine::MemoryPlan& memory_plan() const = 0;
  /// What the model is and can do: vocab_size, embedding_size, labels, encoder_decoder.
  virtual void describe(channel::wire::Loaded& loaded) const = 0;
  virtual const ops::Device& device() const = 0;
};

/// Wraps a loaded model in the engine for its kind. `link` must outlive it. Throws Error where the model
/// cannot do option.task, or the engine cannot run with these options.
std::unique_ptr<Served> serve(std::string name, Session session, const configuration::ModelOptions& options,
                              channel::HostLink& link);

/// The same for each kind.
std::unique_ptr<Served> serve_decoder(std::string name, Session session, const engine::EngineOptions& options,
                                      channel::HostLink& link);
std::unique_ptr<Served> serve_encoder(std::string name, Session session, const engine::EngineOptions& options,
                                      channel::HostLink& link);

}  // namespace peregrine::host
