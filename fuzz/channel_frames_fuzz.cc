// SPDX-License-Identifier: Apache-2.0
// rooms: channel
//
// The input is what comes over a channel, from either end: its first byte says in which portions. However it
// is cut, the same messages come out; a message, and what convert.h makes of it, survive the way back.
#include <engine.pb.h>
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "channel/convert.h"
#include "channel/frame.h"
#include "core/error.h"

namespace {

using namespace peregrine;  // NOLINT

void require(bool condition) {
  if (!condition) std::abort();
}

/// The same bytes after T is made of `message` and `message` of T, where it can be.
template <typename Message>
void check_conversion(const Message& message) {
  try {
    const auto value = channel::from_message(message);
    Message again;
    channel::to_message(value, again);
    const auto value_again = channel::from_message(again);
    Message third;
    channel::to_message(value_again, third);
    require(again.SerializeAsString() == third.SerializeAsString());
  } catch (const core::Error& error) {
    require(error.kind() == core::ErrorKind::kInvalidArgument);
  }
}

void check_parts(const channel::wire::ToHost& message) {
  if (message.has_submit()) check_conversion(message.submit().sampling());
}

void check_parts(const channel::wire::FromHost& message) {
  if (message.has_load_failed()) check_conversion(message.load_failed().error());
  if (message.has_refused()) check_conversion(message.refused().error());
  for (const auto& event : message.events().sequences()) {
    for (const auto& token : event.tokens()) check_conversion(token);
    try {
      const auto finish = channel::from_message(event.finish());
      if (finish) require(channel::to_message(*finish) == event.finish());
    } catch (const core::Error& error) {
      require(error.kind() == core::ErrorKind::kDataLoss);
    }
  }
}

template <typename Message>
void check_message(const Message& message) {
  std::string frame;
  channel::append_frame(message, frame);
  channel::FrameReader reader;
  reader.push(frame);
  Message again;
  require(reader.next(again) && again.SerializeAsString() == message.SerializeAsString());
  check_parts(message);
}

/// The messages that come, serialized, and behind them the error, if there is one.
template <typename Message>
std::vector<std::string> read(std::span<const char> bytes, std::size_t portion, bool check) {
  std::vector<std::string> taken;
  channel::FrameReader reader;
  try {
    while (!bytes.empty()) {
      const std::size_t count = std::min(portion, bytes.size());
      reader.push(bytes.first(count));
      bytes = bytes.subspan(count);
      for (Message message; reader.next(message);) {
        if (check) check_message(message);
        taken.push_back(message.SerializeAsString());
      }
    }
  } catch (const core::Error& error) {
    require(error.kind() == core::ErrorKind::kDataLoss);
    taken.emplace_back(error.what());
  }
  return taken;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto* const kSilent = new google::protobuf::LogSilencer;
  static_cast<void>(kSilent);
  if (size == 0) return 0;
  const std::size_t portion = std::size_t{1} + data[0];
  const std::span bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  require(read<channel::wire::ToHost>(bytes, portion, true) ==
          read<channel::wire::ToHost>(bytes, size, false));
  require(read<channel::wire::FromHost>(bytes, portion, true) ==
          read<channel::wire::FromHost>(bytes, size, false));
  return 0;
}
