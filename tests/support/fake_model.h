// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "serving/model.h"
#include "support/fake_encoder.h"

namespace peregrine::testing {

/// What one sequence of a fake answer is.
struct FakeSequence {
  /// Cut at max_new_tokens, and then the sequence ends with kLength.
  std::vector<std::int32_t> tokens;
  /// How it ends where it is not cut. Of tokens that end it, the last is one.
  generation::FinishReason finish = generation::FinishReason::kEosToken;
  std::string error;  ///< Where finish is kError.
  /// Of the tokens; fake_log_prob where there are fewer.
  std::vector<float> log_probs = {};
};

/// A model that computes nothing and answers at once, on the thread that asks: with what a test gives it. The
/// log-probability of token i of a sequence is fake_log_prob(i); of top_n_tokens alternatives the first is
/// the token itself, the others are the ids behind it, each 0.5 less likely. All functions may be called from
/// any thread; the fields are to be set before. Where a prompt's log-probabilities are asked for, its token
/// at position p has -p / 8 and alternatives by the same rule, and all come with the first take().
class FakeModel : public serving::Model {
 public:
  /// Serves as `name`; config.json and generation_config.json are read from `directory`.
  FakeModel(std::string name, const std::filesystem::path& directory);

  /// What sequence `index` of a request gets.
  std::function<FakeSequence(const serving::GenerationRequest& request, std::int32_t index)> answer;
  /// Tokens of each sequence that one call of take() gives; 0: all.
  std::size_t tokens_per_take = 1;
  /// Thrown by generate().
  std::optional<core::Error> refusal;
  /// Thrown by take() after this many tokens of the first sequence.
  std::optional<core::Error> failure;
  std::size_t failure_after = 0;

  FakeEncoder encoder;
  serving::Limits model_limits;
  serving::ModelStatus model_status;
  configuration::ModelOptions model_options;

  /// The requests so far, in order.
  std::vector<serving::GenerationRequest> requests() const;
  /// How many were destroyed before their end.
  int cancelled() const;

  static float fake_log_prob(std::size_t position) {
    return -0.25f - 0.125f * static_cast<float>(position % 8);
  }

  const std::string& name() const override { return name_; }
  const configuration::ModelOptions& options() const override { return model_options; }
  const model_info::ModelDirectory& directory() const override { return directory_; }
  serving::ModelStatus status() const override { return model_status; }
  serving::Limits limits() const override;
  std::unique_ptr<serving::Generation> generate(serving::GenerationRequest request,
                                                std::function<void()> wake) override;
  std::unique_ptr<serving::Encoding> encode(serving::EncodeRequest request,
                                            std::function<void()> wake) override;
  void set_vocabulary(std::shared_ptr<const std::vector<std::string>> bytes) override { (void)bytes; }

 private:
  class Running;
  struct Seen {
    std::mutex mutex;
    std::vector<serving::GenerationRequest> requests;
    int cancelled = 0;
  };

  std::string name_;
  model_info::ModelDirectory directory_;
  std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();  ///< A Generation may outlive its model.
};

}  // namespace peregrine::testing
