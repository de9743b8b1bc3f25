// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "serving/encoding.h"

namespace peregrine::testing {

/// What a fake model does with texts to be encoded: answers at once, with what a test gives it. For one
/// thread.
class FakeEncoder {
 public:
  /// What a text gets; without it, its token ids.
  std::function<std::vector<float>(const serving::EncodeRequest&)> vector;
  std::vector<serving::EncodeRequest> requests = {};  ///< In order, those that were taken.
  std::optional<core::Error> refusal;                 ///< Thrown by encode().
  std::optional<core::Error> failure;                 ///< Thrown by take() of ...
  std::size_t failure_from = 0;                       ///< ... the texts from this one.
  std::size_t room = 1000000;  ///< Texts that exist at once; more are refused as by a queue that is full.
  bool holds = false;          ///< Nothing comes before release().
  int alive = 0;               ///< Encodings that exist.
  int most_alive = 0;
  int cancelled = 0;  ///< Encodings that were destroyed before their end.

  std::unique_ptr<serving::Encoding> encode(serving::EncodeRequest request, std::function<void()> wake) {
    if (refusal) throw *refusal;
    if (static_cast<std::size_t>(alive) >= room) {
      core::fail(core::ErrorKind::kOverloaded, "Worker queue capacity exceeded for model: fake");
    }
    requests.push_back(std::move(request));
    if (holds) {
      held_.push_back(wake);
    } else {
      wake();
    }
    return std::make_unique<Running>(*this, requests.size() - 1);
  }

  /// Lets everything come that is held, and holds no more.
  void release() {
    holds = false;
    for (const auto& wake : std::exchange(held_, {})) wake();
  }

 private:
  class Running : public serving::Encoding {
   public:
    Running(FakeEncoder& encoder, std::size_t index) : encoder_(encoder), index_(index) {
      ++encoder_.alive;
      encoder_.most_alive = std::max(encoder_.most_alive, encoder_.alive);
    }
    ~Running() override {
      --encoder_.alive;
      if (!ended_) ++encoder_.cancelled;
    }

    bool take(std::vector<float>& out) override {
      if (encoder_.holds) return false;
      if (encoder_.failure && index_ >= encoder_.failure_from) {
        ended_ = true;
        throw core::Error(*encoder_.failure);
      }
      const serving::EncodeRequest& request = encoder_.requests[index_];
      out = encoder_.vector ? encoder_.vector(request)
                            : std::vector<float>(request.ids.begin(), request.ids.end());
      ended_ = true;
      return true;
    }

    serving::Timing timing() const override { return {.queued_seconds = 0.25, .first_token_seconds = 0.5}; }

   private:
    FakeEncoder& encoder_;
    std::size_t index_;
    bool ended_ = false;
  };

  std::vector<std::function<void()>> held_;
};

}  // namespace peregrine::testing
