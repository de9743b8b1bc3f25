// SPDX-License-Identifier: Apache-2.0
#include "api/encode_exchange.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/log.h"

namespace peregrine::api {
namespace {

using core::ErrorKind;

class EncodeExchange : public Exchange {
 public:
  EncodeExchange(const ServedModel& model, EncodePlan plan, std::shared_ptr<RequestLog> log,
                 std::function<void()> wake)
      : model_(*model.model), plan_(std::move(plan)), log_(std::move(log)), wake_(std::move(wake)) {
    // One batch that runs, and one behind it.
    most_ = static_cast<std::size_t>(std::max(model_.limits().max_sequences, 1)) * 2;
    answer_.vectors.resize(plan_.inputs.size());
    for (const EncodeInput& input : plan_.inputs) answer_.tokens += input.ids.size();
    log_->prompt_tokens += answer_.tokens;
  }

  /// Submits what may run now. Throws where none of this request's is on its way.
  void submit() {
    while (next_ < plan_.inputs.size() && running_.size() < most_) {
      EncodeInput& input = plan_.inputs[next_];
      serving::EncodeRequest request{.request_id = log_->request_id,
                                     .kind = plan_.kind,
                                     .ids = input.ids,
                                     .token_types = input.token_types,
                                     .pooling = plan_.pooling,
                                     .normalize = plan_.normalize};
      try {
        running_.push_back({next_, model_.encode(std::move(request), wake_)});
      } catch (const core::Error& error) {
        // There is room again at the latest when one of ours has ended.
        if (error.kind() != ErrorKind::kOverloaded || running_.empty()) throw;
        return;
      }
      input = {};
      ++next_;
    }
  }

  State next(Head& head, std::string& body) override {
    if (done_) return State::kDone;
    const std::size_t sent = body.size();
    try {
      take();
      submit();
      if (!running_.empty()) return State::kWaiting;
      done_ = true;
      head.content_type = "application/json";
      plan_.write(answer_, body);
    } catch (const core::Error& error) {
      fail(error, sent, head, body);
    } catch (const std::exception& error) {
      fail(core::Error(ErrorKind::kInternal, error.what()), sent, head, body);
    }
    return State::kDone;
  }

 private:
  struct Running {
    std::size_t index;
    std::unique_ptr<serving::Encoding> encoding;
  };

  void take() {
    std::erase_if(running_, [this](Running& running) {
      if (!running.encoding->take(answer_.vectors[running.index])) return false;
      const serving::Timing timing = running.encoding->timing();
      log_->queued_seconds = std::max(log_->queued_seconds, timing.queued_seconds);
      if (log_->first_token_seconds == 0) log_->first_token_seconds = timing.first_token_seconds;
      return true;
    });
  }

  void fail(const core::Error& error, std::size_t sent, Head& head, std::string& body) {
    spdlog::warn("request failed request_id={}: {}", log_->request_id, error.what());
    done_ = true;
    running_.clear();
    body.resize(sent);
    write_error(error, plan_.error_style, head, body);
  }

  serving::Model& model_;
  EncodePlan plan_;
  std::shared_ptr<RequestLog> log_;
  std::function<void()> wake_;
  std::size_t most_ = 1;  ///< On their way at once.
  std::size_t next_ = 0;  ///< The first input that was not submitted.
  std::vector<Running> running_;
  EncodeAnswer answer_;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<Exchange> start_encoding(const ServedModel& model, EncodePlan plan,
                                         std::shared_ptr<RequestLog> log, std::function<void()> wake) {
  auto exchange = std::make_unique<EncodeExchange>(model, std::move(plan), std::move(log), std::move(wake));
  exchange->submit();
  return exchange;
}

}  // namespace peregrine::api
