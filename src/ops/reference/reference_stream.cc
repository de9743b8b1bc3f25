// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/reference_stream.h"

#include <cstring>
#include <exception>
#include <type_traits>

#include "core/error.h"
#include "ops/reference/operations.h"

namespace peregrine::ops::reference {
namespace {

/// Several steps of the deepest models; about 1.4 MB.
constexpr std::size_t kCapacity = 4096;

}  // namespace

ReferenceStream::ReferenceStream(const AddressSpace& memory) : memory_(memory), ring_(kCapacity) {}

ReferenceStream::~ReferenceStream() {
  while (executed_ < enqueued_) run_oldest();
}

void ReferenceStream::upload(DeviceAddress target, const void* source, std::size_t bytes) {
  enqueue(Upload{target, source, bytes});
}

void ReferenceStream::download(void* target, DeviceAddress source, std::size_t bytes) {
  enqueue(Download{target, source, bytes});
}

void ReferenceStream::host(void (*function)(void*), void* context) { enqueue(HostCall{function, context}); }

void ReferenceStream::host_for_each(void (*function)(void*, std::int64_t, int), void* context,
                                    std::int64_t count) {
  enqueue(HostLoop{function, context, count});
}

bool ReferenceStream::done(EventId event) {
  if (executed_ < event) run_oldest();
  return executed_ >= event;
}

void ReferenceStream::wait(EventId event) {
  if (event > enqueued_) {
    core::fail(core::ErrorKind::kInternal, "event {} was never recorded: the stream is at {}", event,
               enqueued_);
  }
  while (executed_ < event) run_oldest();
  if (failure_ && event > failure_->operation)
    core::fail(core::ErrorKind::kInternal, "{}", failure_->message);
}

void ReferenceStream::enqueue(const Operation& operation) {
  if (enqueued_ - executed_ == kCapacity) run_oldest();
  ring_[enqueued_ % kCapacity] = operation;
  ++enqueued_;
}

void ReferenceStream::run_oldest() {
  if (executed_ == enqueued_) return;
  const Operation& operation = ring_[executed_ % kCapacity];
  if (const auto* call = std::get_if<HostCall>(&operation)) {
    call->function(call->context);
  } else if (const auto* loop = std::get_if<HostLoop>(&operation)) {
    for (std::int64_t item = 0; item < loop->count; ++item) loop->function(loop->context, item, 0);
  } else if (!failure_) {
    try {
      run(operation);
    } catch (const std::exception& error) {
      failure_ = Failure{executed_, error.what()};
    }
  }
  ++executed_;
}

void ReferenceStream::run(const Operation& operation) const {
  std::visit(
      [this](const auto& args) {
        using Args = std::decay_t<decltype(args)>;
        if constexpr (std::is_same_v<Args, Upload>) {
          if (args.bytes > 0)
            std::memcpy(memory_.host(args.target, args.bytes, 1, "upload"), args.source, args.bytes);
        } else if constexpr (std::is_same_v<Args, Download>) {
          if (args.bytes > 0)
            std::memcpy(args.target, memory_.host(args.source, args.bytes, 1, "download"), args.bytes);
        } else if constexpr (!std::is_same_v<Args, HostCall> && !std::is_same_v<Args, HostLoop>) {
          execute(memory_, args);
        }
      },
      operation);
}

}  // namespace peregrine::ops::reference
