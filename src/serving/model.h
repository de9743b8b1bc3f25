// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "configuration/model_options.h"
#include "model_info/model_info.h"
#include "serving/encoding.h"
#include "serving/generation.h"
#include "serving/limits.h"

namespace peregrine::serving {

/// Where a model is in its life. kLoading until it has been ready once; kRestarting while its host is being
/// replaced: requests are taken, and wait; kFailed when it will not come (back).
enum class ModelState : std::uint8_t { kLoading, kReady, kRestarting, kDraining, kFailed };
const char* to_string(ModelState state);

/// How a model is doing, at one moment.
struct ModelStatus {
  ModelState state = ModelState::kLoading;
  std::string error;                ///< Why it failed.
  std::uint64_t restarts = 0;       ///< Of its host, after the first start.
  std::uint64_t loaded_bytes = 0;   ///< While loading.
  std::uint64_t total_bytes = 0;    ///< 0 while not known.
  std::int32_t queued = 0;          ///< Requests waiting in the server.
  std::int32_t in_host = 0;         ///< Requests that the host has.
  std::int32_t job_queue_size = 0;  ///< How many may wait.
  std::int32_t host_pid = 0;        ///< 0 where there is none now.
};

/// One model that the server serves. All functions may be called from any thread.
class Model {
 public:
  virtual ~Model() = default;

  virtual const std::string& name() const = 0;
  virtual const configuration::ModelOptions& options() const = 0;
  virtual const model_info::ModelDirectory& directory() const = 0;
  virtual ModelStatus status() const = 0;
  /// What the host said when it was first loaded. Throws Error(kOverloaded) "Model is not ready: NAME"
  /// before.
  virtual Limits limits() const = 0;

  /// Takes a request. `wake` is called, from another thread and possibly before this returns, after something
  /// has come that take() would give; not again until take() was called. It must be quick, must not throw,
  /// and may be called once more after the Generation was destroyed. Throws Error: kOverloaded where the
  /// queue is full ("Worker queue capacity exceeded for model: NAME") or the model is not there (loading,
  /// draining, failed), kInvalidArgument where the request can never run, with the numbers.
  virtual std::unique_ptr<Generation> generate(GenerationRequest request, std::function<void()> wake) = 0;

  /// The same for a text that an encoder embeds or classifies. Throws kUnsupported where the model generates.
  virtual std::unique_ptr<Encoding> encode(EncodeRequest request, std::function<void()> wake) = 0;

  /// The bytes of each token id, for stop strings that are found in the engine. Sent to every host of the
  /// model from now on.
  virtual void set_vocabulary(std::shared_ptr<const std::vector<std::string>> bytes) = 0;
};

}  // namespace peregrine::serving
