// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/cpu_stream.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <type_traits>

#include "core/checked.h"
#include "core/error.h"
#include "core/processors.h"

namespace peregrine::ops::cpu {
namespace {

/// Several steps of a model of a hundred layers.
constexpr std::size_t kCapacity = 4096;

/// A copy from two such pieces up goes to all threads: the logits of a batch are megabytes.
constexpr std::size_t kCopyPiece = std::size_t{128} << 10;

}  // namespace

CpuStream::CpuStream(Compute& compute) : compute_(compute), ring_(kCapacity) {
  thread_ = std::thread([this] { dispatch(); });
}

CpuStream::~CpuStream() {
  enqueue(Stop{});
  thread_.join();
}

void CpuStream::upload(DeviceAddress target, const void* source, std::size_t bytes) {
  enqueue(Copy{target, source, bytes});
}

void CpuStream::download(void* target, DeviceAddress source, std::size_t bytes) {
  enqueue(Copy{target, source, bytes});
}

void CpuStream::host(void (*function)(void*), void* context) { enqueue(HostCall{function, context}); }

void CpuStream::host_for_each(void (*function)(void*, std::int64_t, int), void* context, std::int64_t count) {
  enqueue(HostLoop{function, context, count});
}

void CpuStream::enqueue(const Operation& operation) {
  const std::uint64_t index = enqueued_.value();
  // Once it is full, half of it must be free again, or there would be a wake-up for each operation.
  if (index - finished_.value() >= kCapacity) {
    finished_.wait(index - kCapacity / 2, compute_.has_spare_processor());
  }
  ring_[index % kCapacity] = operation;
  enqueued_.advance(index + 1);
}

EventId CpuStream::record() { return enqueued_.value(); }

bool CpuStream::done(EventId event) { return finished_.value() >= event; }

void CpuStream::wait(EventId event) {
  // Where every processor computes, a thread that spins takes time from those it waits for.
  finished_.wait(event, compute_.has_spare_processor());
  if (!failed_.load(std::memory_order_acquire)) return;
  const std::scoped_lock lock(failure_mutex_);
  throw core::Error(core::ErrorKind::kInternal, failure_);
}

void CpuStream::dispatch() {
  const core::Seated seated(compute_.seat());
  for (std::uint64_t index = 0;; ++index) {
    enqueued_.wait(index + 1);
    const Operation& operation = ring_[index % kCapacity];
    const bool stop = std::holds_alternative<Stop>(operation);
    if (const auto* call = std::get_if<HostCall>(&operation)) {
      call->function(call->context);
    } else if (const auto* loop = std::get_if<HostLoop>(&operation)) {
      const std::scoped_lock lock(compute_.mutex());
      compute_.for_each(loop->count, true, [loop](std::int64_t item, int thread) {
        loop->function(loop->context, item, thread);
      });
    } else if (!stop && !failed_.load(std::memory_order_relaxed)) {
      try {
        execute(operation);
      } catch (const std::exception& error) {
        const std::scoped_lock lock(failure_mutex_);
        failure_ = error.what();
        failed_.store(true, std::memory_order_release);
      }
    }
    finished_.advance(index + 1);
    if (stop) return;
  }
}

void CpuStream::execute(const Operation& operation) {
  if (const auto* args = std::get_if<Copy>(&operation)) return copy(*args);
  const std::scoped_lock lock(compute_.mutex());
  std::visit(
      [this](const auto& args) {
        using Args = std::remove_cvref_t<decltype(args)>;
        if constexpr (requires { run(compute_, plans_, args); }) {
          run(compute_, plans_, args);
        } else if constexpr (!std::is_same_v<Args, Stop> && !std::is_same_v<Args, Copy> &&
                             !std::is_same_v<Args, HostCall> && !std::is_same_v<Args, HostLoop>) {
          run(compute_, args);
        }
      },
      operation);
}

void CpuStream::copy(const Copy& copy) {
  // An empty copy may come with null addresses, which memcpy does not take.
  if (copy.bytes == 0) return;
  if (copy.bytes < 2 * kCopyPiece) {
    std::memcpy(copy.target, copy.source, copy.bytes);
    return;
  }
  const std::scoped_lock lock(compute_.mutex());
  compute_.for_each(static_cast<std::int64_t>(core::ceil_div(copy.bytes, kCopyPiece)), true,
                    [&](std::int64_t piece, int) {
                      const std::size_t start = static_cast<std::size_t>(piece) * kCopyPiece;
                      std::memcpy(static_cast<std::byte*>(copy.target) + start,
                                  static_cast<const std::byte*>(copy.source) + start,
                                  std::min(kCopyPiece, copy.bytes - start));
                    });
}

}  // namespace peregrine::ops::cpu
