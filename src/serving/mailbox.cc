// SPDX-License-Identifier: Apache-2.0
#include "serving/mailbox.h"

#include <iterator>
#include <utility>

namespace peregrine::serving {

Mailbox::Mailbox(std::int32_t sequences, std::function<void()> wake)
    : wake_(std::move(wake)), places_(static_cast<std::size_t>(sequences), 0), open_(sequences) {}

bool Mailbox::must_wake() { return !std::exchange(woken_, true) && wake_ != nullptr; }

void Mailbox::push(std::int32_t sequence, std::vector<generation::SampledToken> tokens,
                   std::optional<generation::FinishReason> finish, const std::string& error) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (finish) --open_;
    if (abandoned_ || error_) return;
    std::size_t& place = places_[static_cast<std::size_t>(sequence)];
    if (place == 0) {
      waiting_.push_back({.sequence = sequence, .tokens = std::move(tokens), .finish = {}, .error = {}});
      place = waiting_.size();
    } else {
      auto& into = waiting_[place - 1].tokens;
      into.insert(into.end(), std::make_move_iterator(tokens.begin()), std::make_move_iterator(tokens.end()));
    }
    SequenceUpdate& update = waiting_[place - 1];
    update.finish = finish;
    if (finish) update.error = error;
    wake = must_wake();
  }
  // The consumer may hold a lock of its own both in take() and in wake(): ours must be free here.
  if (wake) wake_();
}

void Mailbox::fail(const core::Error& error) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (open_ == 0 || error_) return;
    error_ = error;
    waiting_.clear();
    wake = !abandoned_ && must_wake();
  }
  if (wake) wake_();
}

void Mailbox::set_timing(const Timing& timing) {
  const std::lock_guard lock(mutex_);
  timing_ = timing;
}

bool Mailbox::take(std::vector<SequenceUpdate>& out) {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  if (error_) throw core::Error(*error_);
  out.insert(out.end(), std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  for (const SequenceUpdate& update : waiting_) places_[static_cast<std::size_t>(update.sequence)] = 0;
  waiting_.clear();
  return open_ == 0;
}

Timing Mailbox::timing() const {
  const std::lock_guard lock(mutex_);
  return timing_;
}

bool Mailbox::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  waiting_.clear();
  return open_ > 0 && !error_;
}

}  // namespace peregrine::serving
