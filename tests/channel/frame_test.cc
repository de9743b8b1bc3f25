// SPDX-License-Identifier: Apache-2.0
#include "channel/frame.h"

#include <engine.pb.h>
#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace {

std::atomic<std::size_t> live_bytes = 0;
std::atomic<std::size_t> largest_allocation = 0;

}  // namespace

void* operator new(std::size_t size) {
  void* address = std::malloc(size);
  if (address == nullptr) throw std::bad_alloc();
  live_bytes += ::malloc_usable_size(address);
  if (size > largest_allocation) largest_allocation = size;
  return address;
}

void operator delete(void* address) noexcept {
  live_bytes -= ::malloc_usable_size(address);
  std::free(address);
}

void operator delete(void* address, std::size_t) noexcept { operator delete(address); }

namespace peregrine::channel {
namespace {

using core::ErrorKind;
using google::protobuf::MessageLite;
using ::testing::HasSubstr;

std::string framed(const MessageLite& message) {
  std::string bytes;
  append_frame(message, bytes);
  return bytes;
}

std::string length_bytes(std::uint32_t length) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(length >> (8 * i) & 0xFF));
  return bytes;
}

wire::FromHost invoke_chunk(std::size_t bytes) {
  wire::FromHost message;
  message.mutable_invoke_chunk()->set_data(std::string(bytes, 'x'));
  return message;
}

/// Small messages of several sizes, an empty one among them.
std::vector<wire::FromHost> some_messages() {
  std::vector<wire::FromHost> messages(5);
  messages[0].mutable_pong()->set_number(1);
  messages[2] = invoke_chunk(300);
  messages[3].mutable_events()->set_model("m");
  messages[3].mutable_events()->add_sequences()->add_tokens()->set_id(77);
  messages[4].mutable_drained();
  return messages;
}

/// All messages that the reader has, serialized.
std::vector<std::string> take_all(FrameReader& reader) {
  std::vector<std::string> taken;
  for (wire::FromHost message; reader.next(message);) taken.push_back(message.SerializeAsString());
  return taken;
}

TEST(Frames, HaveTheirLengthInFront) {
  wire::FromHost message = invoke_chunk(300);
  std::string bytes = "before";
  append_frame(message, bytes);
  EXPECT_EQ(bytes, "before" + length_bytes(static_cast<std::uint32_t>(message.ByteSizeLong())) +
                       message.SerializeAsString());
}

TEST(Frames, ComeWholeInAnyChunking) {
  std::string stream;
  std::vector<std::string> expected;
  for (const auto& message : some_messages()) {
    append_frame(message, stream);
    expected.push_back(message.SerializeAsString());
  }
  for (std::size_t portion = 1; portion <= stream.size(); ++portion) {
    FrameReader reader;
    std::vector<std::string> taken;
    for (std::size_t at = 0; at < stream.size(); at += portion) {
      reader.push(std::string_view(stream).substr(at, portion));
      for (auto& message : take_all(reader)) taken.push_back(std::move(message));
    }
    EXPECT_EQ(taken, expected) << "in portions of " << portion;
  }
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    FrameReader reader;
    reader.push(std::string_view(stream).substr(0, cut));
    reader.push({});
    reader.push(std::string_view(stream).substr(cut));
    EXPECT_EQ(take_all(reader), expected) << "cut at " << cut;
  }
}

TEST(Frames, MessagesAreReplacedAndNotMerged) {
  FrameReader reader;
  reader.push(framed(invoke_chunk(10)));
  reader.push(framed(wire::FromHost()));
  wire::FromHost message;
  ASSERT_TRUE(reader.next(message));
  ASSERT_TRUE(reader.next(message));
  EXPECT_EQ(message.kind_case(), wire::FromHost::KIND_NOT_SET);
}

/// Expects that next() throws kDataLoss, the same each time.
void expect_damaged(FrameReader& reader, const std::string& text) {
  for (int i = 0; i < 2; ++i) {
    wire::FromHost message;
    try {
      reader.next(message);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDataLoss);
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
    reader.push(framed(invoke_chunk(1)));
  }
}

TEST(Frames, HostileLengthsAreRefusedAtOnce) {
  for (const std::uint32_t length : {kLargestMessage + 1, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu}) {
    FrameReader reader;
    reader.push(length_bytes(length));
    expect_damaged(reader, std::to_string(length));
  }
  FrameReader reader;
  reader.push(std::string_view("HTTP/1.1 400 Bad Request\r\n"));
  expect_damaged(reader, "does not speak");
}

TEST(Frames, ADeclaredLengthTakesNoMemory) {
  FrameReader reader;
  reader.push(length_bytes(kLargestMessage) + std::string(1000, '\0'));
  largest_allocation = 0;
  wire::FromHost message;
  EXPECT_FALSE(reader.next(message));
  reader.push(std::string(1000, '\0'));
  EXPECT_FALSE(reader.next(message));
  EXPECT_LT(largest_allocation, 10000);
}

TEST(Frames, MemoryOfALargeMessageIsGivenBack) {
  const std::string next = framed(invoke_chunk(100));
  for (const std::size_t begun : {std::size_t{0}, std::size_t{3}, std::size_t{50}}) {
    const std::size_t before = live_bytes;
    FrameReader reader;
    {
      const std::string bytes = framed(invoke_chunk(32u << 20)) + next.substr(0, begun);
      for (std::size_t at = 0; at < bytes.size(); at += 65536) {
        reader.push(std::string_view(bytes).substr(at, 65536));
      }
      EXPECT_EQ(take_all(reader).size(), 1);
    }
    EXPECT_LT(live_bytes, before + (2u << 20)) << "with " << begun << " bytes of the next message";
    reader.push(std::string_view(next).substr(begun));
    EXPECT_EQ(take_all(reader).size(), 1);
  }
}

TEST(Frames, AMillionInOneBufferTakeLinearTime) {
  // Moving the rest of the buffer for each of them would be 4 terabytes, far beyond the test's time limit.
  wire::FromHost pong;
  pong.mutable_pong()->set_number(1);
  std::string stream;
  for (int i = 0; i < 1000000; ++i) append_frame(pong, stream);
  FrameReader reader;
  reader.push(stream);
  int count = 0;
  for (wire::FromHost message; reader.next(message); ++count) {
    if (count % 2 == 0) reader.push({});
  }
  EXPECT_EQ(count, 1000000);
}

TEST(Frames, TooLargeAMessageIsRefusedAndWritesNothing) {
  wire::FromHost large = invoke_chunk(kLargestMessage);
  std::string bytes = "kept";
  try {
    append_frame(large, bytes);
    FAIL() << "nothing was thrown";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(kLargestMessage)));
  }
  EXPECT_EQ(bytes, "kept");
  // The largest that fits does go.
  const std::size_t around = large.ByteSizeLong() - kLargestMessage;
  large.mutable_invoke_chunk()->mutable_data()->resize(kLargestMessage - around);
  ASSERT_EQ(large.ByteSizeLong(), kLargestMessage);
  append_frame(large, bytes);
  FrameReader reader;
  reader.push(std::string_view(bytes).substr(4));
  wire::FromHost message;
  ASSERT_TRUE(reader.next(message));
  EXPECT_EQ(message.invoke_chunk().data().size(), kLargestMessage - around);
}

TEST(Frames, DamageGivesAMessageOrAnError) {
  const google::protobuf::LogSilencer silent;
  std::mt19937 random(5);
  std::string stream;
  for (const auto& message : some_messages()) append_frame(message, stream);
  int errors = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = stream;
    if (round % 2 == 0) {
      for (std::size_t i = 1 + random() % 4; i > 0; --i) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
    } else {
      bytes = length_bytes(random() % 64);
      for (int i = 0; i < 64; ++i) bytes.push_back(static_cast<char>(random()));
    }
    FrameReader reader;
    reader.push(bytes);
    try {
      take_all(reader);
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDataLoss);
      ++errors;
    }
  }
  EXPECT_GT(errors, 100);
}

}  // namespace
}  // namespace peregrine::channel
