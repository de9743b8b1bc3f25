// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "model/load.h"
#include "support/collect.h"
#include "support/devices.h"

// The laws of the house (docs/design.md, section 8) as a harness that any model, device or option can be put
// through: each law runs the same requests in two ways and demands the same tokens and log-probabilities, bit
// for bit.

namespace peregrine::testing {

/// Loads the model under test onto a device.
using ModelLoader = std::function<model::LoadedModel(ops::Device&)>;

/// A model under test, on one device, with requests for it and what each of them gets when it is alone.
class LawBench {
 public:
  /// `requests` have ids 0, 1, 2, ...
  LawBench(const DeviceCase& device, const ModelLoader& loader, int threads = 2);

  const model::Decoder& decoder() const { return *model_.decoder; }

  /// A mix of greedy and seeded sampling, beams, penalties, several sequences and lengths: `count` requests
  /// with prompts (texts of an encoder-decoder) of the given lengths (repeated in turn), `new_tokens` each.
  std::vector<engine::Request> mixed_requests(std::size_t count,
                                              const std::vector<std::int32_t>& prompt_lengths,
                                              std::int32_t new_tokens) const;

  /// Answers of all requests run together.
  Answers together(const std::vector<engine::Request>& requests, const engine::EngineOptions& options) const;
  /// Answers of each request run in an engine of its own.
  Answers alone(const std::vector<engine::Request>& requests, const engine::EngineOptions& options) const;

  // Each law returns the answers of its second way, to compare with alone().
  /// Some groups are stopped and recomputed at scripted steps.
  Answers preempted(const std::vector<engine::Request>& requests, const engine::EngineOptions& options) const;
  /// Every second request is cancelled at some step of its life; the answers of the others.
  Answers beside_cancelled(const std::vector<engine::Request>& requests,
                           const engine::EngineOptions& options) const;
  /// Every request is stopped after some tokens and submitted again with them to another engine.
  Answers replayed(const std::vector<engine::Request>& requests, const Answers& whole,
                   const engine::EngineOptions& options) const;

 private:
  std::unique_ptr<ops::Device> device_;
  model::LoadedModel model_;
};

/// Fails the test for each request of `found` whose answers differ from `expected`, naming the first
/// difference.
void expect_same(const Answers& found, const Answers& expected, const std::string& law);

}  // namespace peregrine::testing
