// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "serving/metrics.h"
#include "serving/model.h"

namespace peregrine::serving {

/// How engine hosts are started.
struct HostCommand {
  /// Program and leading arguments; "--channel-fd N" is appended. The host's end of the socket pair is
  /// descriptor N.
  std::vector<std::string> command;
};

/// A model to serve.
struct ModelSource {
  std::string name;
  std::filesystem::path directory;
  configuration::ModelOptions options;
};

/// All models of this server, each with an engine host of its own, on one thread of their own. Thread-safe.
class Models {
 public:
  /// Opens the directories (throws Error naming what is wrong in one) and starts the thread; no host yet.
  /// `metrics` must outlive this.
  Models(std::vector<ModelSource> sources, HostCommand host, Metrics& metrics);
  /// Ends the hosts: closes their channels, waits shortly, kills what is left.
  ~Models();
  Models(const Models&) = delete;
  Models& operator=(const Models&) = delete;

  /// Starts all hosts and lets them load. Returns at once.
  void start();
  /// Waits until every model is ready (true), or one has failed (false).
  bool wait_until_loaded();

  /// The model of this name, or null. Valid as long as this object.
  Model* find(std::string_view name) const;
  /// In the order in which they were given.
  const std::vector<Model*>& all() const;

  /// From now on no request is taken. Returns true when none is left, false when `limit` passed before.
  bool drain(std::chrono::milliseconds limit);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::serving
