// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "configuration/model_options.h"
#include "host/session.h"

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
  /// `options`, and behind them those that have flags of their own, which win.
  std::vector<std::string> all_options() const;
};

/// A model on a device, ready to run, and the options it was loaded with.
struct Session : host::Session {
  configuration::ModelOptions options;
};

/// The options of the model directory (none for random weights) and of the flags.
configuration::ModelOptions read_options(const ModelFlags& flags);

/// Loads the model, with progress (rate and time left) on standard error when that is a
/// terminal or the load is long.
Session open_session(const ModelFlags& flags, configuration::ModelOptions options);

/// The decoder of a model that generates. Throws Error(kUnsupported) for an encoder that stands alone.
const model::Decoder& decoder_of(const Session& session);

/// The encoder of a model that is only that. Throws Error(kUnsupported) for a model that generates.
const model::Encoder& encoder_of(const Session& session);

/// Token ids of "1,2,3". Throws Error(kInvalidArgument) that names `flag` and the part that is not an id.
std::vector<std::int32_t> parse_ids(const std::string& text, const std::string& flag);

}  // namespace peregrine::cli
