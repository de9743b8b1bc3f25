// SPDX-License-Identifier: Apache-2.0
// The life of connections: slow and vanished clients, draining, ending.
#include "http/connection.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "http/fake_service.h"
#include "http/raw_client.h"
#include "http/server.h"
#include "http/shared.h"

namespace peregrine::http {
namespace {

using namespace std::chrono_literals;

class Connections : public testing::Test {
 protected:
  Connections() {
    options.host = "127.0.0.1";
    options.port = 0;
  }

  void start() {
    server.emplace(options, service);
    server->start();
  }
  std::uint16_t port() const { return server->port(); }
  bool no_exchange_left() {
    return wait_until([&] { return service.exchanges == 0; });
  }
  bool no_connection_left() {
    return wait_until([&] { return service.connections == 0; });
  }

  ServerOptions options;
  FakeService service;
  std::optional<Server> server;
};

constexpr std::string_view kWait = "GET /wait HTTP/1.1\r\n\r\n";
constexpr std::string_view kEcho = "GET /echo HTTP/1.1\r\n\r\n";

TEST_F(Connections, AClientThatVanishesWhileWaitingEndsItsExchange) {
  start();
  for (const bool reset : {false, true}) {
    RawClient client(port());
    ASSERT_TRUE(client.send(kWait));
    ASSERT_TRUE(wait_until([&] { return service.exchanges == 1; }));
    if (reset) {
      client.reset();
    } else {
      client.close();
    }
    EXPECT_TRUE(no_exchange_left());
    EXPECT_TRUE(no_connection_left());
  }
  service.release();  // wakes that come after all is over
}

TEST_F(Connections, PipelinedBytesDoNotHideThatTheClientIsGone) {
  start();
  for (const std::size_t size : {1000, 100'000}) {  // within the read-ahead, and more than it
    RawClient client(port());
    ASSERT_TRUE(client.send(kWait));
    ASSERT_TRUE(client.send(std::string(size, 'x')));
    ASSERT_TRUE(wait_until([&] { return service.exchanges == 1; }));
    std::this_thread::sleep_for(50ms);
    client.reset();
    EXPECT_TRUE(no_exchange_left());
  }
}

TEST_F(Connections, AClientThatVanishesMidStreamEndsItsExchange) {
  start();
  RawClient client(port());
  ASSERT_TRUE(client.send("GET /stream?1000000 HTTP/1.1\r\n\r\n"));
  for (int i = 0; i < 10; ++i) ASSERT_FALSE(client.read_some(10'000, 20s).empty());
  client.close();
  EXPECT_TRUE(no_exchange_left());
  RawClient ticks(port());
  ASSERT_TRUE(ticks.send("GET /ticks?100000000 HTTP/1.1\r\n\r\n"));
  ASSERT_FALSE(ticks.read_some(100, 20s).empty());
  ticks.shut_send();
  EXPECT_TRUE(no_exchange_left());
  EXPECT_TRUE(no_connection_left());
}

TEST_F(Connections, HalfClosedClientsGetWhatNeedsNoWaiting) {
  start();
  RawClient two(port());
  ASSERT_TRUE(two.send(std::string(kEcho) + std::string(kEcho)));
  two.shut_send();
  EXPECT_TRUE(two.read_answer().complete);
  EXPECT_TRUE(two.read_answer().complete);
  EXPECT_TRUE(two.read_end());
  const std::string body(100'000, 'x');  // this one by way of a worker
  RawClient large(port());
  ASSERT_TRUE(
      large.send(fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  large.shut_send();
  EXPECT_TRUE(large.read_answer().complete);
  RawClient waiting(port());
  ASSERT_TRUE(waiting.send(kWait));
  waiting.shut_send();
  EXPECT_TRUE(waiting.read_end());
  RawClient half(port());
  ASSERT_TRUE(half.send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"));
  half.shut_send();
  EXPECT_TRUE(half.read_end());
  EXPECT_TRUE(no_exchange_left());
  EXPECT_TRUE(no_connection_left());
}

TEST_F(Connections, AnUnreadStreamIsNotAskedForMore) {
  options.threads = 1;
  start();
  RawClient slow(port(), 4096);
  ASSERT_TRUE(slow.send("GET /stream?100000 HTTP/1.1\r\n\r\n"));  // 6 GB
  int asked = -1;
  ASSERT_TRUE(wait_until([&] {
    const int before = std::exchange(asked, service.stream_parts.load());
    std::this_thread::sleep_for(100ms);
    return before == asked && asked > 0;
  }));
  EXPECT_LT(asked, 200);  // what the system's buffers take
  // Others go on meanwhile, on the same thread.
  RawClient other(port());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(other.send("GET /ticks?5 HTTP/1.1\r\n\r\n"));
    EXPECT_TRUE(other.read_answer().complete);
  }
  EXPECT_EQ(service.stream_parts, asked);
  slow.reset();
  EXPECT_TRUE(no_exchange_left());
}

TEST_F(Connections, ASlowReaderGetsEverything) {
  options.write_timeout = 2s;
  start();
  RawClient slow(port());
  ASSERT_TRUE(slow.send("GET /stream?2000 HTTP/1.1\r\n\r\n"));
  std::size_t received = 0;
  for (int i = 0; i < 6; ++i) {  // longer than the time without progress
    received += slow.read_some(4u << 20, 20s).size();
    std::this_thread::sleep_for(600ms);
  }
  while (true) {
    const std::string bytes = slow.read_some(4u << 20, 20s);
    received += bytes.size();
    if (bytes.empty() || bytes.ends_with("\r\n0\r\n\r\n")) break;
  }
  EXPECT_GT(received, 2000u * (64u << 10));
  EXPECT_TRUE(no_exchange_left());
}

TEST_F(Connections, AClientThatTakesNothingIsDropped) {
  options.write_timeout = 1s;
  start();
  RawClient client(port(), 4096);
  ASSERT_TRUE(client.send("GET /stream?100000 HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(wait_until([&] { return service.stream_parts > 0; }));
  EXPECT_TRUE(no_exchange_left());
  EXPECT_TRUE(no_connection_left());
}

TEST_F(Connections, ABodyWithAWorkerHoldsUpNobody) {
  options.threads = 1;
  start();
  service.slow_handle = true;
  const std::string body(20'000, 'x');
  const std::string large =
      fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
  RawClient busy(port());
  RawClient gone(port());
  ASSERT_TRUE(busy.send(large));
  ASSERT_TRUE(gone.send(large));
  ASSERT_TRUE(wait_until([&] { return service.in_slow_handle == 2; }));
  RawClient queued(port());  // behind the two workers' two, and gone before its turn
  ASSERT_TRUE(queued.send(large));
  RawClient other(port());
  ASSERT_TRUE(other.send(kEcho));
  EXPECT_EQ(other.read_answer().status, 200);
  gone.reset();
  queued.reset();
  EXPECT_TRUE(wait_until([&] { return service.connections == 2; }));
  service.release();
  EXPECT_TRUE(busy.read_answer().complete);
  EXPECT_TRUE(no_exchange_left());
  EXPECT_EQ(service.in_slow_handle, 2);
}

/// Texts become tokens in handle(): were that on a thread that writes, every stream would wait for it.
TEST_F(Connections, NoBodyIsHandledByAThreadThatWrites) {
  options.threads = 1;
  start();
  for (const std::size_t size : {1u, 1000u, 1'000'000u}) {
    RawClient client(port());
    ASSERT_TRUE(client.send(
        fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", size, std::string(size, 'x'))));
    EXPECT_EQ(client.read_answer().status, 200);
    EXPECT_NE(service.handled_on(), service.asked_on()) << size;
  }
}

TEST_F(Connections, LongBodiesHoldUpNoShortOnes) {
  options.threads = 1;
  start();
  service.slow_handle = true;
  const std::string body(1'000'000, 'x');
  std::vector<std::unique_ptr<RawClient>> busy;
  for (int i = 0; i < 4; ++i) {  // more than there are workers
    busy.push_back(std::make_unique<RawClient>(port()));
    ASSERT_TRUE(busy.back()->send(
        fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  }
  ASSERT_TRUE(wait_until([&] { return service.in_slow_handle == 2; }));
  RawClient other(port());
  ASSERT_TRUE(other.send(kEcho));
  EXPECT_EQ(other.read_answer().status, 200);
  ASSERT_TRUE(other.send("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nshort"));
  EXPECT_EQ(other.read_answer().status, 200);
  EXPECT_FALSE(service.released());
  service.release();
  for (const auto& client : busy) EXPECT_TRUE(client->read_answer().complete);
}

/// A step of a model gives a token to each of its streams: one task for all, not one each.
TEST(WakeList, ThoseThatWakeTogetherAreDeliveredTogether) {
  FakeService service;
  Shared shared({}, service);
  std::vector<std::shared_ptr<Connection>> connections;
  std::vector<std::shared_ptr<Waker>> wakers;
  for (int i = 0; i < 100; ++i) {
    connections.push_back(std::make_shared<Connection>(
        boost::asio::ip::tcp::socket(boost::asio::make_strand(shared.io)), shared));
    wakers.push_back(std::make_shared<Waker>(*connections.back()));
  }
  for (int round = 0; round < 3; ++round) {
    for (const auto& waker : wakers) waker->wake();
    for (const auto& waker : wakers) waker->wake();
    shared.io.restart();
    EXPECT_EQ(shared.io.poll(), 1u) << "round " << round;
    for (const auto& connection : connections) EXPECT_EQ(connection.use_count(), 1);
  }
  for (const auto& waker : wakers) waker->detach();
}

TEST_F(Connections, TooManyAreToldSo) {
  options.max_connections = 2;
  start();
  std::optional<RawClient> first(port());
  RawClient second(port());
  for (RawClient* client : {&*first, &second}) {
    ASSERT_TRUE(client->send(kEcho));
    EXPECT_EQ(client->read_answer().status, 200);
  }
  RawClient third(port());
  const Answer answer = third.read_answer();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(third.read_end());
  third.close();
  first.reset();
  ASSERT_TRUE(wait_until([&] { return service.connections == 1; }));
  RawClient fourth(port());
  ASSERT_TRUE(fourth.send(kEcho));
  EXPECT_EQ(fourth.read_answer().status, 200);
}

TEST_F(Connections, DrainLetsAnswersFinish) {
  start();
  RawClient idle(port());
  RawClient used(port());
  RawClient waiting(port());
  ASSERT_TRUE(used.send(kEcho));
  EXPECT_EQ(used.read_answer().status, 200);
  ASSERT_TRUE(waiting.send(std::string(kWait) + std::string(kEcho)));
  ASSERT_TRUE(wait_until([&] { return service.handled == 2; }));
  ASSERT_TRUE(wait_until([&] { return service.connections == 3; }));
  EXPECT_FALSE(server->drain(50ms));
  EXPECT_TRUE(idle.read_end());
  EXPECT_TRUE(used.read_end());
  EXPECT_TRUE(wait_until([&] { return !RawClient(port()).connected(); }));
  service.release();
  EXPECT_TRUE(server->drain(20s));
  const Answer answer = waiting.read_answer();
  EXPECT_EQ(answer.body, "released");
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(waiting.read_end());  // what was pipelined behind it is not begun
  EXPECT_EQ(service.handled, 2);
}

TEST_F(Connections, DrainAnswersWhatIsBeingSent) {
  start();
  RawClient client(port());
  ASSERT_TRUE(client.send("GET /ec"));
  ASSERT_TRUE(wait_until([&] { return service.connections == 1; }));
  std::this_thread::sleep_for(20ms);
  EXPECT_FALSE(server->drain(50ms));
  ASSERT_TRUE(client.send("ho HTTP/1.1\r\n\r\n"));
  const Answer answer = client.read_answer();
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(client.read_end());
  EXPECT_TRUE(server->drain(20s));
}

TEST_F(Connections, DrainEndsAStreamWithItsAnswer) {
  start();
  RawClient client(port());
  ASSERT_TRUE(client.send("GET /stream?3000 HTTP/1.1\r\n\r\n"));
  ASSERT_TRUE(wait_until([&] { return service.stream_parts > 0; }));
  bool drained = false;
  std::thread draining([&] { drained = server->drain(20s); });
  const Answer answer = client.read_answer();
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.body.size(), 3000u * (64u << 10));
  EXPECT_TRUE(client.read_end());
  draining.join();
  EXPECT_TRUE(drained);
}

TEST_F(Connections, TheEndOfTheServerEndsEverything) {
  service.slow_handle = true;
  for (int round = 0; round < 5; ++round) {
    start();
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i < 30; ++i) {
      clients.push_back(std::make_unique<RawClient>(port()));
      constexpr std::string_view kRequests[] = {"",
                                                "GET",
                                                "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
                                                kWait,
                                                "GET /ticks?1000000 HTTP/1.1\r\n\r\n",
                                                "GET /stream?1000000 HTTP/1.1\r\n\r\n"};
      ASSERT_TRUE(clients.back()->send(kRequests[i % 6]));
    }
    ASSERT_TRUE(wait_until([&] { return service.exchanges >= 15; }));
    server.reset();
    EXPECT_EQ(service.exchanges, 0);
    EXPECT_EQ(service.connections, 0);
  }
}

TEST_F(Connections, TheEndComesBeforeTheBeginning) {
  for (int round = 0; round < 100; ++round) {
    start();
    RawClient client(port());
    client.send(kEcho);
    std::this_thread::sleep_for(round * 10us);  // somewhere between accept and answer
    server.reset();
    ASSERT_EQ(service.exchanges, 0);
    ASSERT_EQ(service.connections, 0);
  }
}

TEST_F(Connections, ADestroyedServerNeverStarted) {
  server.emplace(options, service);
  RawClient client(port());
  EXPECT_FALSE(client.connected());  // a health check is refused as long as models load, and does not hang
  EXPECT_TRUE(server->drain(10ms));
  server.reset();
}

TEST_F(Connections, WakesRaceWithTheEnd) {
  start();
  std::atomic<bool> stop{false};
  // Wakes of exchanges that live, die and have died, from several threads.
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        service.release();
        std::this_thread::yield();
      }
    });
  }
  const std::uint16_t at = port();
  std::atomic<int> answered{0};
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; !stop; ++round) {
        RawClient client(at);
        if (!client.connected() || !client.send("GET /ticks?20 HTTP/1.1\r\n\r\nGET /wait HTTP/1.1\r\n\r\n"))
          continue;
        if ((round + i) % 3 == 0) client.reset();
        if ((round + i) % 3 == 1) client.read_some(100, 1s);
        if ((round + i) % 3 == 2 && client.read_answer().complete) ++answered;
      }
    });
  }
  EXPECT_TRUE(wait_until([&] { return answered > 100; }));
  server.reset();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(service.exchanges, 0);
  EXPECT_EQ(service.connections, 0);
}

}  // namespace
}  // namespace peregrine::http
