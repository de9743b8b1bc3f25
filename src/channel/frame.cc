// SPDX-License-Identifier: Apache-2.0
#include "channel/frame.h"

#include <utility>

#include "core/error.h"

namespace peregrine::channel {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::size_t kLengthBytes = 4;
/// A buffer that one large message has grown beyond this is given back after it.
constexpr std::size_t kKeptCapacity = 1u << 20;

std::uint32_t read_length(const char* bytes) {
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return length;
}

}  // namespace

void append_frame(const google::protobuf::MessageLite& message, std::string& out) {
  const std::size_t length = message.ByteSizeLong();
  if (length > kLargestMessage) {
    fail(ErrorKind::kInvalidArgument, "a message of {} bytes is larger than the channel carries, which is {}",
         length, kLargestMessage);
  }
  const std::size_t begin = out.size();
  out.resize(begin + kLengthBytes + length);
  for (std::size_t i = 0; i < kLengthBytes; ++i) out[begin + i] = static_cast<char>(length >> (8 * i) & 0xFF);
  message.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(out.data() + begin + kLengthBytes));
}

void FrameReader::push(std::span<const char> bytes) {
  // Moves at most as many bytes as were read since the last time, so that the work stays linear.
  if (begin_ >= buffer_.size() - begin_) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  buffer_.append(bytes.data(), bytes.size());
}

bool FrameReader::next(google::protobuf::MessageLite& message) {
  const std::size_t waiting = buffer_.size() - begin_;
  if (waiting < kLengthBytes) return false;
  const char* frame = buffer_.data() + begin_;
  const std::uint32_t length = read_length(frame);
  if (length > kLargestMessage) {
    fail(ErrorKind::kDataLoss,
         "the channel has a message of {} bytes, and at most {} can be; the other end does not speak this "
         "protocol",
         length, kLargestMessage);
  }
  if (waiting - kLengthBytes < length) return false;
  if (!message.ParseFromArray(frame + kLengthBytes, static_cast<int>(length))) {
    fail(ErrorKind::kDataLoss, "the channel has {} bytes that are not a {} message", length,
         message.GetTypeName());
  }
  begin_ += kLengthBytes + length;
  const std::size_t rest = buffer_.size() - begin_;
  if (buffer_.capacity() > kKeptCapacity && rest <= buffer_.capacity() / 4) {
    std::string(buffer_, begin_).swap(buffer_);  // An assignment may keep the large memory.
    begin_ = 0;
  }
  return true;
}

}  // namespace peregrine::channel
