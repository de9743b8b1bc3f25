// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace peregrine::channel {

/// Version of proto/engine.proto: raised when a message changes so that an older end would misread it.
inline constexpr std::uint32_t kProtocolVersion = 2;

/// Largest message, in bytes: a 128 MiB frame holds 16 million prompt ids. A longer length on the wire means
/// that the other end is not a Peregrine.
inline constexpr std::uint32_t kLargestMessage = 128u << 20;

/// Appends one frame: the message's length as four bytes, least significant first, then the message. Throws
/// Error(kInvalidArgument) where it is larger than kLargestMessage.
void append_frame(const google::protobuf::MessageLite& message, std::string& out);

/// Takes a stream of bytes apart into frames. Not thread-safe.
class FrameReader {
 public:
  /// Adds bytes as they come, in any portions.
  void push(std::span<const char> bytes);

  /// Reads the next whole frame into `message`; false where there is none yet. Throws Error(kDataLoss) for a
  /// length above kLargestMessage or bytes that are no such message; the stream cannot go on then.
  bool next(google::protobuf::MessageLite& message);

 private:
  std::string buffer_;
  std::size_t begin_ = 0;  ///< Where in buffer_ the next frame begins.
};

}  // namespace peregrine::channel
