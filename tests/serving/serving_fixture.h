// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "serving/models.h"
#include "support/test_data.h"

namespace peregrine::serving {

/// Far more than anything takes, on the slowest machine; only a hang reaches it.
inline constexpr std::chrono::seconds kPatience{120};

/// All that came for one sequence.
struct SequenceResult {
  std::vector<std::int32_t> ids;
  std::vector<float> log_probs;
  std::optional<generation::FinishReason> finish;
  std::optional<float> score;
  std::vector<std::int32_t> prompt;  ///< Tokens of the prompt that came with log-probabilities.
  bool operator==(const SequenceResult&) const = default;
};

/// What the echo host answers.
std::vector<SequenceResult> expected(const GenerationRequest& request, std::int64_t max_model_length = 1024);

/// A request, and a client that takes as soon as it is woken.
class Client {
 public:
  Client() = default;
  /// Submits; throws what Model::generate throws.
  Client(Model& model, const GenerationRequest& request);

  /// Takes until all sequences have ended; throws what take() throws. Fails the test where nothing comes.
  const std::vector<SequenceResult>& finish();
  /// Takes until `count` tokens have come altogether, or all have ended.
  void wait_for_tokens(std::size_t count);
  /// Takes until an Error comes, and returns it.
  core::Error wait_for_error();
  /// Destroys the Generation.
  void cancel() { generation_.reset(); }

  std::size_t tokens() const;
  Generation& generation() { return *generation_; }

 private:
  struct Bell {
    std::mutex mutex;
    std::condition_variable rung;
    int count = 0;
  };
  /// Waits for the bell and takes once; whether all has ended.
  bool take();

  std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  std::unique_ptr<Generation> generation_;
  std::vector<SequenceResult> results_;
};

/// A server's models over echo hosts, with one model "m" where a test does not say otherwise.
class ServingTest : public ::testing::Test {
 protected:
  ServingTest();

  static ModelSource source(const std::string& name = "m");
  /// The echo host with these flags.
  static HostCommand echo(std::vector<std::string> flags = {});
  /// bad_host with a plan (see there), and the echo host with these flags for "echo".
  HostCommand bad(const std::string& plan, std::vector<std::string> flags = {});

  /// Starts and waits until the model is ready.
  void serve(const HostCommand& host, const ModelSource& what = source());
  /// Starts only.
  void start(const HostCommand& host, std::vector<ModelSource> sources);

  Model& model(const std::string& name = "m") { return *models_->find(name); }
  /// A request for the echo host, different for each `index`.
  static GenerationRequest request(int index, std::int32_t max_new_tokens, std::int32_t n = 1);
  /// How often bad_host has begun.
  int bad_starts() const;
  /// What its "record" wrote, line by line.
  std::vector<std::string> recorded() const;
  /// SIGKILL, if there is a host.
  void kill_host();
  /// The value of one line of the metrics, by its name with labels; 0 where there is none.
  double metric(const std::string& line) const;

  /// Looks again and again until `done`; whether that came within kPatience.
  static bool eventually(const std::function<bool()>& done);

  testing::TemporaryDirectory folder_;
  Metrics metrics_;
  std::unique_ptr<Models> models_;
};

/// Open descriptors of this process.
std::size_t descriptors();
/// Whether this process has a child, dead or alive.
bool has_children();

}  // namespace peregrine::serving
