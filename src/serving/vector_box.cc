// SPDX-License-Identifier: Apache-2.0
#include "serving/vector_box.h"

#include <utility>

namespace peregrine::serving {

void VectorBox::fill(std::vector<float> values) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true) || abandoned_) return;
    values_ = std::move(values);
  }
  // The consumer may hold a lock of its own both in take() and in wake(): ours must be free here.
  if (wake_) wake_();
}

void VectorBox::fail(const core::Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true) || abandoned_) return;
    error_ = error;
  }
  if (wake_) wake_();
}

void VectorBox::set_timing(const Timing& timing) {
  const std::lock_guard lock(mutex_);
  timing_ = timing;
}

bool VectorBox::take(std::vector<float>& out) {
  const std::lock_guard lock(mutex_);
  if (error_) throw core::Error(*error_);
  if (ended_) out = std::move(values_);
  return ended_;
}

Timing VectorBox::timing() const {
  const std::lock_guard lock(mutex_);
  return timing_;
}

bool VectorBox::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  values_.clear();
  return !ended_;
}

}  // namespace peregrine::serving
