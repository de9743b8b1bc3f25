// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "configuration/model_options.h"
#include "engine/engine.h"
#include "model/load.h"
#include "ops/device.h"

namespace peregrine::host {

/// A device with a model on it, ready to run.
struct Session {
  std::unique_ptr<ops::Device> device;
  model::LoadedModel model;
  double load_seconds = 0;
};

/// Loads the model in `directory` as `options` say. The environment's PEREGRINE_ISA counts where option.isa
/// is not set. Throws Error as model::load_model and ops::create_device do.
Session load_session(const std::filesystem::path& directory, const configuration::ModelOptions& options,
                     const model::LoadProgress& progress);

/// The same with random weights of a named shape ("falcon-7b:layers=4").
Session load_random_session(const std::string& shape, std::uint64_t seed,
                            const configuration::ModelOptions& options, const model::LoadProgress& progress);

/// The engine's part of the options.
engine::EngineOptions engine_options(const configuration::ModelOptions& options);

}  // namespace peregrine::host
