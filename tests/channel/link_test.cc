// SPDX-License-Identifier: Apache-2.0
#include "channel/link.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "channel/frame.h"
#include "channel/host_link.h"
#include "channel/loop_thread.h"
#include "core/error.h"

namespace peregrine::channel {
namespace {

using ::testing::HasSubstr;
using testing::LoopThread;
using testing::SocketPair;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

wire::ToHost ping(std::uint64_t number) {
  wire::ToHost message;
  message.mutable_ping()->set_number(number);
  return message;
}

wire::FromHost pong(std::uint64_t number) {
  wire::FromHost message;
  message.mutable_pong()->set_number(number);
  return message;
}

/// Keeps what comes and lets another thread wait for it.
class Recorder : public Link::Handler {
 public:
  void on_message(wire::FromHost&& message) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(reason_) << "a message after the end";
    messages_.push_back(std::move(message));
    if (during_message) during_message();
    changed_.notify_all();
  }
  void on_closed(const std::string& reason) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(reason_) << "the end came twice";
    reason_ = reason;
    if (during_closed) during_closed();
    changed_.notify_all();
  }

  const std::vector<wire::FromHost>& wait_for_messages(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return messages_.size() >= count || reason_; });
    EXPECT_GE(messages_.size(), count) << "closed: " << reason_.value_or("");
    return messages_;
  }
  std::string wait_for_end() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return reason_.has_value(); });
    return *reason_;
  }
  /// Of the loop's thread, or while it does not run.
  std::size_t count() const { return messages_.size(); }
  bool closed() const { return reason_.has_value(); }

  std::function<void()> during_message;  ///< To be set before anything comes.
  std::function<void()> during_closed;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<wire::FromHost> messages_;
  std::optional<std::string> reason_;
};

/// A Link on its loop, and the other end as a bare descriptor or a HostLink.
class LinkTest : public ::testing::Test {
 protected:
  LinkTest() {
    loop_.call([&] { link_ = std::make_unique<Link>(loop_.loop(), pair_.server, recorder_); });
  }
  ~LinkTest() override {
    loop_.call([&] { link_.reset(); });
    if (host_fd_ >= 0) ::close(host_fd_);
  }

  std::unique_ptr<HostLink> host() { return std::make_unique<HostLink>(std::exchange(host_fd_, -1)); }
  void send(const wire::ToHost& message) {
    loop_.call([&] { link_->send(message); });
  }
  std::size_t unsent() {
    std::size_t bytes = 0;
    loop_.call([&] { bytes = link_->unsent_bytes(); });
    return bytes;
  }
  void write_raw(std::string_view bytes) {
    ASSERT_EQ(::send(host_fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  LoopThread loop_;
  Recorder recorder_;
  SocketPair pair_;
  int host_fd_ = pair_.host;
  std::unique_ptr<Link> link_;
};

TEST_F(LinkTest, CarriesMessagesBothWays) {
  const auto host = this->host();
  send(ping(7));
  wire::ToHost received;
  ASSERT_TRUE(host->receive(received));
  EXPECT_EQ(received.ping().number(), 7);
  ASSERT_TRUE(host->send(pong(8)));
  EXPECT_EQ(recorder_.wait_for_messages(1)[0].pong().number(), 8);
}

TEST_F(LinkTest, ThousandsBothWaysAtOnce) {
  constexpr std::uint64_t kCount = 20000;
  const auto host = this->host();
  // Each side sends without waiting for the other: whoever stopped reading would hold up both.
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      wire::FromHost message;
      message.mutable_invoke_chunk()->set_request(i);
      message.mutable_invoke_chunk()->set_data(std::string(i % 700, 'b'));
      ASSERT_TRUE(host->send(message));
    }
  });
  std::thread receiver([&] {
    wire::ToHost message;
    for (std::uint64_t i = 0; i < kCount; ++i) {
      ASSERT_TRUE(host->receive(message));
      ASSERT_EQ(message.invoke().request(), i);
      ASSERT_EQ(message.invoke().body().size(), i % 600);
    }
  });
  loop_.call([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      wire::ToHost message;
      message.mutable_invoke()->set_request(i);
      message.mutable_invoke()->set_body(std::string(i % 600, 'a'));
      link_->send(message);
    }
  });
  const auto& messages = recorder_.wait_for_messages(kCount);
  sender.join();
  receiver.join();
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(messages[i].invoke_chunk().request(), i);
    ASSERT_EQ(messages[i].invoke_chunk().data().size(), i % 700);
  }
  EXPECT_EQ(unsent(), 0);
}

TEST_F(LinkTest, LargeMessagesBothWaysWhileSmallOnesFlow) {
  constexpr std::size_t kLarge = 64u << 20;
  constexpr int kSmall = 2000;
  const auto host = this->host();
  std::thread large([&] {
    wire::FromHost message;
    message.mutable_invoke_chunk()->set_data(std::string(kLarge, 'L'));
    ASSERT_TRUE(host->send(message));
  });
  std::thread small([&] {
    for (int i = 0; i < kSmall; ++i) ASSERT_TRUE(host->send(pong(static_cast<std::uint64_t>(i))));
  });
  std::thread receiver([&] {
    wire::ToHost message;
    std::uint64_t pings = 0;
    int invokes = 0;
    while (pings < kSmall || invokes < 1) {
      ASSERT_TRUE(host->receive(message));
      if (message.has_ping()) {
        ASSERT_EQ(message.ping().number(), pings++);
      } else {
        ASSERT_EQ(message.invoke().body(), std::string(kLarge, 'S'));
        ++invokes;
      }
    }
  });
  wire::ToHost message;
  message.mutable_invoke()->set_body(std::string(kLarge, 'S'));
  for (int i = 0; i < kSmall; ++i) {
    if (i == kSmall / 2) send(message);
    send(ping(static_cast<std::uint64_t>(i)));
  }
  const auto& messages = recorder_.wait_for_messages(kSmall + 1);
  large.join();
  small.join();
  receiver.join();
  std::uint64_t pongs = 0;
  for (const auto& received : messages) {
    if (received.has_pong()) {
      EXPECT_EQ(received.pong().number(), pongs++);
    } else {
      EXPECT_EQ(received.invoke_chunk().data(), std::string(kLarge, 'L'));
    }
  }
  EXPECT_EQ(pongs, kSmall);
  EXPECT_EQ(unsent(), 0);
}

TEST_F(LinkTest, ReadsWhileTheHostDoesNot) {
  wire::ToHost message;
  message.mutable_invoke()->set_body(std::string(4u << 20, 'S'));
  send(message);
  EXPECT_GT(unsent(), 2u << 20) << "more than a socket holds";
  const auto host = this->host();
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(host->send(pong(1)));
  recorder_.wait_for_messages(5000);
  EXPECT_GT(unsent(), 2u << 20);
  ASSERT_TRUE(host->receive(message));
  EXPECT_EQ(message.invoke().body().size(), 4u << 20);
}

TEST_F(LinkTest, SaysThatTheHostClosed) {
  write_raw(std::string("\x20\0\0\0half", 8));
  ::close(std::exchange(host_fd_, -1));
  EXPECT_THAT(recorder_.wait_for_end(), HasSubstr("closed"));
  EXPECT_FALSE(is_open(pair_.server));
  send(ping(1));  // Dropped.
  EXPECT_EQ(unsent(), 0);
}

TEST_F(LinkTest, ReadsTheLastWordsOfAHostThatWent) {
  std::string bytes;
  for (std::uint64_t i = 0; i < 100; ++i) append_frame(pong(i), bytes);
  loop_.call([&] {
    // All this while the loop does nothing, so that the Link learns of it at once.
    link_->send(ping(1));
    write_raw(bytes);
    ::close(std::exchange(host_fd_, -1));
  });
  recorder_.wait_for_end();
  EXPECT_EQ(recorder_.wait_for_messages(100).size(), 100);
}

TEST_F(LinkTest, EndsWhereTheHostTakesNothingAnyMore) {
  ::shutdown(host_fd_, SHUT_RD);
  std::string bytes;
  append_frame(pong(1), bytes);
  write_raw(bytes);
  send(ping(1));
  EXPECT_THAT(recorder_.wait_for_end(), HasSubstr("writing failed"));
  EXPECT_EQ(recorder_.wait_for_messages(1).size(), 1);
  EXPECT_EQ(unsent(), 0);
}

TEST_F(LinkTest, ClosesOnWhatIsNoMessage) {
  std::string bytes;
  append_frame(pong(1), bytes);
  bytes += std::string("\x04\0\0\0\xff\xff\xff\xff", 8);
  append_frame(pong(2), bytes);
  write_raw(bytes);
  EXPECT_THAT(recorder_.wait_for_end(), HasSubstr("FromHost"));
  EXPECT_EQ(recorder_.wait_for_messages(1).size(), 1);
  EXPECT_FALSE(is_open(pair_.server));
  char byte = 0;
  EXPECT_EQ(::recv(host_fd_, &byte, 1, 0), 0) << "the host sees the end";
}

TEST_F(LinkTest, ClosesOnAHostileLength) {
  write_raw("\xff\xff\xff\xff");
  EXPECT_THAT(recorder_.wait_for_end(), HasSubstr("4294967295"));
}

TEST_F(LinkTest, TooLargeAMessageHarmsNoOther) {
  const auto host = this->host();
  loop_.call([&] {
    wire::ToHost large;
    large.mutable_invoke()->mutable_body()->resize(kLargestMessage);
    EXPECT_THROW(link_->send(large), core::Error);
    link_->send(ping(2));
  });
  wire::ToHost message;
  ASSERT_TRUE(host->receive(message));
  EXPECT_EQ(message.ping().number(), 2);
}

TEST_F(LinkTest, MayBeDestroyedByAMessage) {
  recorder_.during_message = [&] { link_.reset(); };
  std::string bytes;
  for (std::uint64_t i = 0; i < 3; ++i) append_frame(pong(i), bytes);
  loop_.call([&] {
    link_->send(ping(1));
    write_raw(bytes);
  });
  recorder_.wait_for_messages(1);
  char byte = 0;
  while (::recv(host_fd_, &byte, 1, 0) > 0) {
  }
  loop_.call([&] {
    EXPECT_EQ(recorder_.count(), 1) << "nothing is said after the Link has gone";
    EXPECT_FALSE(recorder_.closed());
  });
}

TEST_F(LinkTest, MayBeDestroyedByItsEnd) {
  recorder_.during_closed = [&] { link_.reset(); };
  ::close(std::exchange(host_fd_, -1));
  recorder_.wait_for_end();
  loop_.call([&] { EXPECT_EQ(link_, nullptr); });
}

TEST_F(LinkTest, MayBeDestroyedWithWritesUnderWay) {
  loop_.call([&] {
    wire::ToHost message;
    message.mutable_invoke()->set_body(std::string(8u << 20, 'S'));
    link_->send(message);
    link_->send(ping(1));
  });
  loop_.call([&] {
    link_->send(ping(1));
    link_.reset();
  });
  EXPECT_FALSE(is_open(pair_.server));
  loop_.call([&] { EXPECT_FALSE(recorder_.closed()); });
}

TEST_F(LinkTest, ClosesOnAnErrorOfItsHandler) {
  recorder_.during_message = [] { core::fail(core::ErrorKind::kDataLoss, "finish reason 77"); };
  std::string bytes;
  append_frame(pong(1), bytes);
  write_raw(bytes);
  EXPECT_EQ(recorder_.wait_for_end(), "finish reason 77");
}

TEST(Link, GathersWhatATaskSends) {
  // A socket that keeps writes apart shows how many there were.
  SocketPair pair(SOCK_SEQPACKET);
  LoopThread loop;
  Recorder recorder;
  std::unique_ptr<Link> link;
  std::string expected;
  loop.call([&] {
    link = std::make_unique<Link>(loop.loop(), pair.server, recorder);
    for (std::uint64_t i = 0; i < 200; ++i) {
      link->send(ping(i));
      append_frame(ping(i), expected);
    }
  });
  std::string bytes(1u << 16, '\0');
  const ssize_t count = ::recv(pair.host, bytes.data(), bytes.size(), 0);
  ASSERT_GT(count, 0);
  bytes.resize(static_cast<std::size_t>(count));
  EXPECT_EQ(bytes, expected);
  loop.call([&] { link.reset(); });
  ::close(pair.host);
}

TEST(Link, ClosesADescriptorThatCannotBeUsed) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  for (const int fd : {pipe[0], file, -1}) {
    EventLoop loop;
    Recorder recorder;
    recorder.during_closed = [&] { loop.stop(); };
    Link link(loop, fd, recorder);
    EXPECT_FALSE(recorder.closed()) << "not before the owner has its Link";
    loop.run();
    EXPECT_TRUE(recorder.closed());
    EXPECT_FALSE(is_open(fd));
  }
  ::close(pipe[1]);
}

TEST(Link, MayLiveAndGoWhileTheLoopDoesNotRun) {
  SocketPair pair;
  Recorder recorder;
  EventLoop loop;
  {
    Link link(loop, pair.server, recorder);
    link.send(ping(1));
    EXPECT_GT(link.unsent_bytes(), 0);
  }
  EXPECT_FALSE(is_open(pair.server));
  ::close(pair.host);
}

TEST(Link, SaysThatTheHostWasKilled) {
  SocketPair pair;
  const pid_t child = ::fork();  // Before there are threads.
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(pair.server);
    HostLink host(pair.host);
    for (wire::ToHost message; host.receive(message);) host.send(pong(message.ping().number()));
    ::_exit(0);
  }
  ::close(pair.host);
  LoopThread loop;
  Recorder recorder;
  std::unique_ptr<Link> link;
  loop.call([&] {
    link = std::make_unique<Link>(loop.loop(), pair.server, recorder);
    for (std::uint64_t i = 0; i < 1000; ++i) link->send(ping(i));
  });
  recorder.wait_for_messages(10);
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  loop.call([&] {
    for (std::uint64_t i = 0; i < 1000; ++i) link->send(ping(i));
  });
  EXPECT_NE(recorder.wait_for_end(), "");
  loop.call([&] { link.reset(); });
}

}  // namespace
}  // namespace peregrine::channel
