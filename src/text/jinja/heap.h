// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace peregrine::text::jinja {

/// Python's integers, as far as 128 bits hold them; beyond is an error.
using Int = __int128;

// The bounds of one rendering. A conversation that fills a context of a million tokens stays far below them.
inline constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;     ///< The output, and any string.
inline constexpr std::size_t kMaxMemoryBytes = std::size_t{256} << 20;  ///< All values alive at once.
inline constexpr std::uint64_t kMaxSteps = 10'000'000;  ///< Nodes evaluated, and work in proportion.
inline constexpr unsigned kMaxCallDepth = 800;          ///< Evaluations inside evaluations.
inline constexpr unsigned kMaxValueDepth = 200;         ///< Lists in lists.
inline constexpr Int kMaxRange = 100'000;               ///< Elements of range(), as Jinja's sandbox has it.

/// What stops a rendering; the interpreter adds where it happened.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& message, core::ErrorKind kind = core::ErrorKind::kInvalidArgument,
                   bool own_words = false)
      : std::runtime_error(message), kind_(kind), own_words_(own_words) {}

  core::ErrorKind kind() const { return kind_; }
  /// The message is the template's own (raise_exception): shown as it is.
  bool own_words() const { return own_words_; }

 private:
  core::ErrorKind kind_;
  bool own_words_;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

class Object;

/// Counts what one rendering costs, and ends it beyond the bounds. Also keeps the objects that can change
/// after their creation (namespaces, macros, iterators): these can form circles and long chains, so they are
/// taken apart here, one by one, and not by each other.
class Heap {
 public:
  Heap() = default;
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  void spend(std::uint64_t steps) {
    steps_ += steps;
    if (steps_ > kMaxSteps) fail_steps();
  }
  // For work that grows with its input. Each step is to be worth some ten nanoseconds to a hundred.
  void spend_copy(std::size_t bytes) { spend(bytes / 256); }      ///< A text copied or compared.
  void spend_scan(std::size_t bytes) { spend(bytes / 32); }       ///< A text searched or cut.
  void spend_characters(std::size_t bytes) { spend(bytes / 4); }  ///< A text looked up in Unicode's tables.
  void spend_items(std::size_t items) { spend(items / 8); }       ///< Values copied.

  void allocate(std::size_t bytes) {
    if (bytes > kMaxMemoryBytes - memory_) fail_memory();
    memory_ += bytes;
  }
  void release(std::size_t bytes) { memory_ -= bytes; }

  /// For a text that grows to `bytes`.
  static void check_text(std::size_t bytes) {
    if (bytes > kMaxTextBytes) fail_text();
  }

  /// Keeps a changeable object to the end, or until nobody else holds it.
  void keep(Object& object);

  /// One evaluation inside another, for the time of its life.
  class Level {
   public:
    explicit Level(Heap& heap) : heap_(heap) {
      if (heap_.depth_ >= kMaxCallDepth) fail_depth();
      ++heap_.depth_;
    }
    ~Level() { --heap_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Heap& heap_;
  };

 private:
  [[noreturn]] static void fail_steps();
  [[noreturn]] static void fail_memory();
  [[noreturn]] static void fail_text();
  [[noreturn]] static void fail_depth();
  void sweep();

  std::uint64_t steps_ = 0;
  std::size_t memory_ = 0;
  unsigned depth_ = 0;
  std::vector<Object*> kept_;
  std::size_t next_sweep_ = 256;
};

/// Counts the bytes of a buffer that grows, and gives them back at its end.
class Reservation {
 public:
  explicit Reservation(Heap& heap) : heap_(heap) {}
  ~Reservation() { heap_.release(bytes_); }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  void add(std::size_t bytes) {
    heap_.allocate(bytes);
    bytes_ += bytes;
  }

 private:
  Heap& heap_;
  std::size_t bytes_ = 0;
};

}  // namespace peregrine::text::jinja
