// SPDX-License-Identifier: Apache-2.0
#include "channel/host_link.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "channel/loop_thread.h"
#include "core/error.h"

namespace peregrine::channel {
namespace {

using core::ErrorKind;
using ::testing::HasSubstr;
using testing::SocketPair;

/// The server's end, by hand and blocking.
class RawServer {
 public:
  explicit RawServer(int fd) : fd_(fd) {}
  ~RawServer() { close(); }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  void send(const wire::ToHost& message) {
    std::string bytes;
    append_frame(message, bytes);
    write(bytes);
  }
  void write(const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      const ssize_t count = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      ASSERT_GT(count, 0);
      at += static_cast<std::size_t>(count);
    }
  }
  /// An empty message at the end of the stream.
  wire::FromHost receive() {
    wire::FromHost message;
    std::array<char, 65536> chunk;
    while (!reader_.next(message)) {
      const ssize_t count = ::recv(fd_, chunk.data(), chunk.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return {};
      reader_.push(std::span(chunk).first(static_cast<std::size_t>(count)));
    }
    return message;
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
  FrameReader reader_;
};

wire::ToHost hello(std::uint32_t protocol, std::uint64_t epoch) {
  wire::ToHost message;
  message.mutable_hello()->set_protocol(protocol);
  message.mutable_hello()->set_version("9.9");
  message.mutable_hello()->set_epoch(epoch);
  return message;
}

wire::ToHost ping(std::uint64_t number) {
  wire::ToHost message;
  message.mutable_ping()->set_number(number);
  return message;
}

class HostLinkTest : public ::testing::Test {
 protected:
  /// The error that greet() throws.
  core::Error greeting_error() {
    try {
      link_.greet("1.2", {"generate"});
    } catch (const core::Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return {ErrorKind::kInternal, ""};
  }

  SocketPair pair_;
  RawServer server_{pair_.server};
  HostLink link_{pair_.host};
};

TEST_F(HostLinkTest, Greets) {
  server_.send(hello(kProtocolVersion, 42));
  const wire::Hello received = link_.greet("1.2", {"generate", "embed"});
  EXPECT_EQ(received.version(), "9.9");
  EXPECT_EQ(received.epoch(), 42);
  const wire::FromHost answer = server_.receive();
  EXPECT_EQ(answer.hello().protocol(), kProtocolVersion);
  EXPECT_EQ(answer.hello().version(), "1.2");
  EXPECT_EQ(answer.hello().epoch(), 42);
  EXPECT_EQ(answer.hello().capabilities_size(), 2);
}

TEST_F(HostLinkTest, SaysBothVersionsWhereTheyDiffer) {
  server_.send(hello(kProtocolVersion + 5, 1));
  const core::Error error = greeting_error();
  EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
  for (const std::string part : {"9.9", "1.2"}) EXPECT_THAT(error.what(), HasSubstr(part));
  EXPECT_THAT(error.what(), HasSubstr("protocol " + std::to_string(kProtocolVersion + 5)));
  EXPECT_EQ(server_.receive().hello().protocol(), kProtocolVersion) << "the server can say the same";
}

TEST_F(HostLinkTest, WantsHelloFirst) {
  server_.send(ping(1));
  EXPECT_EQ(greeting_error().kind(), ErrorKind::kInvalidArgument);
  EXPECT_TRUE(server_.receive().has_hello());
}

TEST_F(HostLinkTest, SaysThatTheServerWentBeforeItsHello) {
  server_.close();
  EXPECT_EQ(greeting_error().kind(), ErrorKind::kInternal);
}

TEST_F(HostLinkTest, SeesTheEndOfTheStream) {
  server_.send(ping(1));
  server_.write(std::string("\x20\0\0\0half", 8));
  server_.close();
  wire::ToHost message;
  ASSERT_TRUE(link_.receive(message));
  EXPECT_EQ(message.ping().number(), 1);
  EXPECT_FALSE(link_.receive(message));
  EXPECT_FALSE(link_.receive(message));
}

TEST_F(HostLinkTest, SendsToNobodyWithoutASignal) {
  server_.close();
  wire::FromHost message;
  message.mutable_drained();
  EXPECT_FALSE(link_.send(message));
  EXPECT_FALSE(link_.send(message));
}

TEST_F(HostLinkTest, SeesAResetAsTheEnd) {
  wire::FromHost answer;
  answer.mutable_drained();
  ASSERT_TRUE(link_.send(answer));
  server_.close();  // With something that it did not read.
  wire::ToHost message;
  EXPECT_FALSE(link_.receive(message));
}

TEST_F(HostLinkTest, RefusesWhatIsNoMessage) {
  server_.write("GET / HTTP/1.1\r\n\r\n");
  wire::ToHost message;
  try {
    link_.receive(message);
    FAIL() << "nothing was thrown";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDataLoss);
  }
}

TEST_F(HostLinkTest, TooLargeAMessageHarmsNoOther) {
  wire::FromHost large;
  large.mutable_invoke_chunk()->mutable_data()->resize(kLargestMessage);
  EXPECT_THROW(link_.send(large), core::Error);
  wire::FromHost pong;
  pong.mutable_pong()->set_number(3);
  EXPECT_TRUE(link_.send(pong));
  EXPECT_EQ(server_.receive().pong().number(), 3);
}

TEST(HostLink, WaitsOnASocketThatWouldNot) {
  SocketPair pair;
  ::fcntl(pair.host, F_SETFL, O_NONBLOCK);
  RawServer server(pair.server);
  HostLink link(pair.host);
  std::thread sender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    server.send(ping(5));
  });
  wire::ToHost message;
  EXPECT_TRUE(link.receive(message));
  EXPECT_EQ(message.ping().number(), 5);
  sender.join();
}

TEST(HostLink, ClosesItsDescriptor) {
  SocketPair pair;
  RawServer server(pair.server);
  { HostLink link(pair.host); }
  EXPECT_EQ(server.receive().kind_case(), wire::FromHost::KIND_NOT_SET);
  EXPECT_LT(::fcntl(pair.host, F_GETFD), 0);
}

TEST_F(HostLinkTest, ThreadsDoNotMixTheirMessages) {
  constexpr int kThreads = 4;
  constexpr int kMessages = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kMessages; ++i) {
        wire::FromHost message;
        auto& chunk = *message.mutable_invoke_chunk();
        chunk.set_request(static_cast<std::uint64_t>(t));
        chunk.set_status(i);
        // Some are larger than what the socket holds, so that a write goes in parts.
        chunk.set_data(std::string(i % 50 == 0 ? 1000000 : i % 1000, static_cast<char>('a' + t)));
        EXPECT_TRUE(link_.send(message));
      }
    });
  }
  std::array<int, kThreads> next{};
  for (int i = 0; i < kThreads * kMessages; ++i) {
    const wire::FromHost message = server_.receive();
    ASSERT_TRUE(message.has_invoke_chunk());
    const auto& chunk = message.invoke_chunk();
    const int t = static_cast<int>(chunk.request());
    EXPECT_EQ(chunk.status(), next.at(static_cast<std::size_t>(t))++);
    EXPECT_EQ(chunk.data().find_first_not_of(static_cast<char>('a' + t)), std::string::npos);
  }
  for (auto& thread : threads) thread.join();
}

/// Sends signals to a thread, without SA_RESTART, for as long as it lives.
class Interrupter {
 public:
  explicit Interrupter(std::thread& thread) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, &before_);
    thread_ = std::thread([this, target = thread.native_handle()] {
      while (!stop_) {
        ::pthread_kill(target, SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  }
  void stop() {
    if (!thread_.joinable()) return;
    stop_ = true;
    thread_.join();
    ::sigaction(SIGUSR1, &before_, nullptr);
  }
  ~Interrupter() { stop(); }

 private:
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  struct sigaction before_ {};
};

TEST_F(HostLinkTest, GoesOnAfterSignals) {
  constexpr int kRounds = 20;
  wire::FromHost answer;
  answer.mutable_invoke_chunk()->set_data(std::string(4u << 20, 'y'));
  std::atomic<bool> done = false;
  std::thread host([&] {
    for (int i = 0; i < kRounds; ++i) {
      wire::ToHost message;
      EXPECT_TRUE(link_.receive(message));
      EXPECT_EQ(message.ping().number(), static_cast<std::uint64_t>(i));
      EXPECT_TRUE(link_.send(answer));
    }
    while (!done) std::this_thread::yield();
  });
  {
    Interrupter interrupter(host);
    for (int i = 0; i < kRounds; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // It waits in receive() meanwhile.
      server_.send(ping(static_cast<std::uint64_t>(i)));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // And in send().
      EXPECT_EQ(server_.receive().invoke_chunk().data().size(), 4u << 20);
    }
  }
  done = true;
  host.join();
}

}  // namespace
}  // namespace peregrine::channel
