// SPDX-License-Identifier: Apache-2.0
#include "serving/mailbox.h"

#include <iterator>
#include <utility>

namespace peregrine::serving {
namespace {

void append(std::vector<generation::SampledToken>&& tokens, std::vector<generation::SampledToken>& to) {
  to.insert(to.end(), std::make_move_iterator(tokens.begin()), std::make_move_iterator(tokens.end()));
}

/// Adds a later update of the same sequence.
void add(SequenceUpdate&& update, SequenceUpdate& to) {
  append(std::move(update.prompt), to.prompt);
  append(std::move(update.tokens), to.tokens);
  if (!update.finish) return;
  to.finish = update.finish;
  to.error = std::move(update.error);
  to.score = update.score;
}

}  // namespace

Mailbox::Mailbox(std::int32_t sequences, std::function<void()> wake)
    : wake_(std::move(wake)), places_(static_cast<std::size_t>(sequences), 0), open_(sequences) {}

bool Mailbox::must_wake() { return !std::exchange(woken_, true) && wake_ != nullptr; }

// The consumer may hold a lock of its own both in take() and in wake(): ours must be free when it is woken.
bool Mailbox::put(SequenceUpdate update) {
  const std::lock_guard lock(mutex_);
  if (update.finish) --open_;
  if (abandoned_ || error_) return false;
  std::size_t& place = places_[static_cast<std::size_t>(update.sequence)];
  if (place == 0) {
    waiting_.push_back(std::move(update));
    place = waiting_.size();
  } else {
    add(std::move(update), waiting_[place - 1]);
  }
  return must_wake();
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
