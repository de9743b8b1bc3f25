// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "model/load.h"
#include "ops/device.h"

namespace peregrine::cli {

/// The flags that every command which runs a model has.
struct ModelFlags {
  std::string model_dir;  ///< A model directory; empty where `random` is used.
  std::string random;     ///< A shape with random weights, such as "falcon-7b:layers=4".
  std::vector<std::string> options;
  std::string device;
  std::string isa;
  int threads = 0;
  bool json = false;
  std::uint64_t random_seed = 0;

  void add_to(CLI::App& command, bool allow_random);
};

/// A device with a model on it, ready to run.
struct Session {
  ModelOptions options;
  std::unique_ptr<ops::Device> device;
  model::LoadedModel model;
  double load_seconds = 0;
};

/// Reads the options and loads the model, with progress (rate and time left) on standard error when that is a
/// terminal or the load is long.
Session open_session(const ModelFlags& flags);

/// Token ids of "1,2,3". Throws Error(kInvalidArgument) that names `flag` and the part that is not an id.
std::vector<std::int32_t> parse_ids(const std::string& text, const std::string& flag);

}  // namespace peregrine::cli
