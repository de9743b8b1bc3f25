// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "serving/generation.h"

namespace peregrine::serving {

/// What came for a request and was not taken yet: filled by the models' thread, emptied by whoever holds the
/// Generation. Thread-safe; nothing waits for the other side longer than a copy of a few tokens takes.
class Mailbox {
 public:
  /// For `sequences` sequences (at least 1). `wake` is described at Model::generate; it is called with no
  /// lock held.
  Mailbox(std::int32_t sequences, std::function<void()> wake);

  // For the models' thread.

  /// Adds what came for a sequence (0 to `sequences` - 1): tokens and its end only where it has not ended.
  /// Returns whether wake() is to be called, which whoever fills many mailboxes does when all are filled: so
  /// their holders wake together.
  [[nodiscard]] bool put(SequenceUpdate update);
  void wake() { wake_(); }
  /// Both in one.
  void push(SequenceUpdate update) {
    if (put(std::move(update))) wake();
  }
  /// Ends the request as a whole, unless all its sequences have ended.
  void fail(const core::Error& error);
  void set_timing(const Timing& timing);

  // For the holder of the Generation.

  /// Generation::take().
  bool take(std::vector<SequenceUpdate>& out);
  Timing timing() const;
  /// Nobody will take anything any more. Returns whether the request had not ended.
  bool abandon();

 private:
  /// Marks that there is something; whether `wake` is to be called, after unlocking.
  bool must_wake();

  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::vector<SequenceUpdate> waiting_;  ///< At most one for each sequence.
  std::vector<std::size_t> places_;      ///< By sequence: 1 + where its update is in waiting_; 0: nowhere.
  std::int32_t open_;                    ///< Sequences that have not ended.
  std::optional<core::Error> error_;
  Timing timing_;
  bool woken_ = false;  ///< Since the last take().
  bool abandoned_ = false;
};

}  // namespace peregrine::serving
