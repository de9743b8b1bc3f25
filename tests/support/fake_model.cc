// SPDX-License-Identifier: Apache-2.0
#include "support/fake_model.h"

#include <algorithm>
#include <utility>

namespace peregrine::testing {

using generation::FinishReason;
using generation::SampledToken;

/// One request being answered.
class FakeModel::Running : public serving::Generation {
 public:
  Running(const FakeModel& model, const serving::GenerationRequest& request, std::function<void()> wake)
      : seen_(model.seen_),
        step_(model.tokens_per_take),
        failure_(model.failure),
        failure_after_(model.failure_after),
        vocab_size_(model.model_limits.vocab_size),
        top_(request.parameters.top_n_tokens),
        wake_(std::move(wake)) {
    if (request.parameters.prompt_logprobs) score_prompt(request);
    for (std::int32_t i = 0; i < request.parameters.reported_sequences(); ++i) {
      FakeSequence sequence = model.answer ? model.answer(request, i) : FakeSequence{};
      const auto most = static_cast<std::size_t>(request.parameters.max_new_tokens);
      if (sequence.tokens.size() > most) {
        sequence.tokens.resize(most);
        sequence.finish = FinishReason::kLength;
      }
      sequences_.push_back(std::move(sequence));
    }
    ended_.resize(sequences_.size());
    if (wake_) wake_();
  }

  ~Running() override {
    if (done_) return;
    const std::scoped_lock lock(seen_->mutex);
    ++seen_->cancelled;
  }

  bool take(std::vector<serving::SequenceUpdate>& out) override {
    if (failure_ && given_ >= failure_after_) {
      done_ = true;
      throw *failure_;
    }
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      if (!ended_[i]) out.push_back(update(static_cast<std::int32_t>(i)));
    }
    given_ += step_ == 0 ? sequences_.front().tokens.size() : step_;
    done_ = std::ranges::all_of(ended_, [](bool ended) { return ended; });
    if (!done_ && wake_) wake_();
    return done_;
  }

  serving::Timing timing() const override { return {0.25, 0.5}; }

 private:
  serving::SequenceUpdate update(std::int32_t index) {
    const FakeSequence& sequence = sequences_[static_cast<std::size_t>(index)];
    serving::SequenceUpdate out;
    out.sequence = index;
    if (index == 0) out.prompt = std::exchange(prompt_, {});
    const std::size_t end =
        step_ == 0 ? sequence.tokens.size() : std::min(sequence.tokens.size(), given_ + step_);
    for (std::size_t i = given_; i < end; ++i) out.tokens.push_back(sampled(sequence, i));
    if (end == sequence.tokens.size()) {
      out.finish = sequence.finish;
      out.error = sequence.error;
      ended_[static_cast<std::size_t>(index)] = true;
    }
    return out;
  }

  SampledToken sampled(const FakeSequence& sequence, std::size_t position) const {
    const std::int32_t id = sequence.tokens[position];
    const float log_prob =
        position < sequence.log_probs.size() ? sequence.log_probs[position] : fake_log_prob(position);
    return with_top({id, log_prob}, top_);
  }

  void score_prompt(const serving::GenerationRequest& request) {
    for (std::size_t p = 1; p < request.prompt_ids.size(); ++p) {
      const float log_prob = -static_cast<float>(p) / 8.0f;
      prompt_.push_back(with_top({request.prompt_ids[p], log_prob}, *request.parameters.prompt_logprobs));
    }
  }

  SampledToken with_top(generation::TokenLogProb token, std::int32_t count) const {
    const auto [id, log_prob] = token;
    SampledToken out{token, {}};
    for (std::int32_t i = 0; i < count; ++i) {
      out.top.push_back({static_cast<std::int32_t>((id + i) % std::max<std::int64_t>(vocab_size_, 1)),
                         log_prob - 0.5f * static_cast<float>(i)});
    }
    return out;
  }

  std::shared_ptr<Seen> seen_;
  std::size_t step_;
  std::optional<core::Error> failure_;
  std::size_t failure_after_;
  std::int64_t vocab_size_;
  std::int32_t top_;
  std::function<void()> wake_;
  std::vector<SampledToken> prompt_;
  std::vector<FakeSequence> sequences_;
  std::vector<bool> ended_;
  std::size_t given_ = 0;  ///< Tokens of each sequence.
  bool done_ = false;
};

FakeModel::FakeModel(std::string name, const std::filesystem::path& directory)
    : name_(std::move(name)), directory_(model_info::ModelDirectory::open(directory)) {
  model_limits.vocab_size = directory_.info().vocab_size.value_or(0);
  model_limits.max_model_length = 1024;
  model_limits.max_sequences = 32;
  model_status.state = serving::ModelState::kReady;
  model_status.job_queue_size = 1000;
}

std::vector<serving::GenerationRequest> FakeModel::requests() const {
  const std::scoped_lock lock(seen_->mutex);
  return seen_->requests;
}

int FakeModel::cancelled() const {
  const std::scoped_lock lock(seen_->mutex);
  return seen_->cancelled;
}

serving::Limits FakeModel::limits() const {
  if (model_status.state == serving::ModelState::kLoading) {
    core::fail(core::ErrorKind::kOverloaded, "Model is not ready: {}", name_);
  }
  return model_limits;
}

std::unique_ptr<serving::Generation> FakeModel::generate(serving::GenerationRequest request,
                                                         std::function<void()> wake) {
  if (refusal) throw *refusal;
  {
    const std::scoped_lock lock(seen_->mutex);
    seen_->requests.push_back(request);
  }
  return std::make_unique<Running>(*this, request, std::move(wake));
}

std::unique_ptr<serving::Encoding> FakeModel::encode(serving::EncodeRequest request,
                                                     std::function<void()> wake) {
  return encoder.encode(std::move(request), std::move(wake));
}

}  // namespace peregrine::testing
