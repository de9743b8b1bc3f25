// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "core/error.h"
#include "serving/generation.h"

namespace peregrine::serving {

/// What came for a text that was to be encoded: filled by the models' thread, emptied by whoever holds the
/// Encoding. Thread-safe, as a Mailbox is.
class VectorBox {
 public:
  /// `wake` is described at Model::generate; it is called with no lock held.
  explicit VectorBox(std::function<void()> wake) : wake_(std::move(wake)) {}

  // For the models' thread.

  /// The whole vector: the request has ended.
  void fill(std::vector<float> values);
  /// Ends the request without one, unless it has ended.
  void fail(const core::Error& error);
  void set_timing(const Timing& timing);

  // For the holder of the Encoding.

  /// Encoding::take().
  bool take(std::vector<float>& out);
  Timing timing() const;
  /// Nobody will take anything any more. Returns whether the request had not ended.
  bool abandon();

 private:
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::vector<float> values_;
  std::optional<core::Error> error_;
  Timing timing_;
  bool ended_ = false;
  bool abandoned_ = false;
};

}  // namespace peregrine::serving
