// SPDX-License-Identifier: Apache-2.0
// Requests and answers over a socket: what goes in and what comes out.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "core/error.h"
#include "http/fake_service.h"
#include "http/raw_client.h"
#include "http/server.h"

namespace peregrine::http {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

ServerOptions local_options() {
  ServerOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  return options;
}

/// A server that runs, with its service.
struct House {
  explicit House(const ServerOptions& options = local_options()) : server(options, service) {
    server.start();
  }

  FakeService service;
  Server server;
};

std::string post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return fmt::format("POST {} HTTP/1.1\r\nHost: h\r\n{}Content-Length: {}\r\n\r\n{}", path, headers,
                     body.size(), body);
}

TEST(Requests, ManyOnOneConnection) {
  House house;
  RawClient client(house.server.port());
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(client.send(post(fmt::format("/echo?{}", i), "body")));
    const Answer answer = client.read_answer();
    ASSERT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.at("content-length"), std::to_string(answer.body.size()));
    EXPECT_EQ(answer.body, fmt::format("POST /echo?{}\nbody", i));
  }
  EXPECT_EQ(house.service.connections, 1);
  client.close();
  EXPECT_TRUE(wait_until([&] { return house.service.connections == 0; }));
}

TEST(Requests, PipelinedOnesAreAnsweredInOrder) {
  House house;
  RawClient client(house.server.port());
  std::string all;
  for (int i = 0; i < 100; ++i)
    all += post(i % 3 == 0 ? fmt::format("/ticks?{}", i % 7 + 1) : "/echo", std::to_string(i));
  ASSERT_TRUE(client.send(all));
  for (int i = 0; i < 100; ++i) {
    const Answer answer = client.read_answer();
    ASSERT_TRUE(answer.complete) << i;
    if (i % 3 == 0) {
      EXPECT_THAT(answer.body, HasSubstr(fmt::format("tick {}\n", i % 7)));
    } else {
      EXPECT_EQ(answer.body, fmt::format("POST /echo?\n{}", i));
    }
  }
}

TEST(Requests, MorePipelinedThanTheReadAheadHolds) {
  House house;
  RawClient client(house.server.port());
  const std::string request = post("/echo", std::string(10'000, 'x'));
  std::thread sender([&] {
    EXPECT_TRUE(client.send(post("/wait", "")));
    for (int i = 0; i < 200; ++i) EXPECT_TRUE(client.send(request));
  });
  EXPECT_TRUE(wait_until([&] { return house.service.exchanges == 1; }));
  house.service.release();
  EXPECT_EQ(client.read_answer().body, "released");
  for (int i = 0; i < 200; ++i) ASSERT_EQ(client.read_answer().status, 200) << i;
  sender.join();
}

TEST(Requests, ChunkedBodiesByteForByte) {
  House house;
  RawClient client(house.server.port());
  const std::string request =
      "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n006;a=b\r\n world\r\n0\r\nT: "
      "x\r\n\r\n";
  for (int round = 0; round < 2; ++round) {
    for (const char byte : request) ASSERT_TRUE(client.send({&byte, 1}));
    EXPECT_EQ(client.read_answer().body, "POST /echo?\nhello world");
  }
}

TEST(Requests, LongBodiesGoToAWorkerAndComeBackWhole) {
  House house;
  RawClient client(house.server.port());
  std::string body(9u << 20, ' ');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 23);
  for (int round = 0; round < 2; ++round) {
    std::thread sender([&] { EXPECT_TRUE(client.send(post("/echo", body))); });
    const Answer answer = client.read_answer();
    sender.join();
    ASSERT_TRUE(answer.complete);
    EXPECT_TRUE(answer.body == "POST /echo?\n" + body);
  }
}

TEST(Requests, StreamsComeInChunksAndKeepTheConnection) {
  House house;
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send("GET /ticks?20 HTTP/1.1\r\n\r\n"));
  Answer answer = client.read_answer();
  EXPECT_EQ(answer.headers.at("transfer-encoding"), "chunked");
  EXPECT_FALSE(answer.headers.contains("content-length"));
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += fmt::format("tick {}\n", i);
  EXPECT_EQ(answer.body, expected);
  ASSERT_TRUE(client.send("GET /empty HTTP/1.1\r\n\r\n"));
  answer = client.read_answer();
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.body, "part 1\npart 3\n");
  EXPECT_TRUE(wait_until([&] { return house.service.exchanges == 0; }));
}

TEST(Requests, ErrorsCloseTheConnection) {
  House house;
  for (const char* path : {"/status?404", "/fail"}) {
    RawClient client(house.server.port());
    ASSERT_TRUE(client.send(fmt::format("GET {} HTTP/1.1\r\n\r\n", path)));
    const Answer answer = client.read_answer();
    EXPECT_TRUE(answer.complete);
    EXPECT_GE(answer.status, 400);
    EXPECT_EQ(answer.headers.at("connection"), "close");
    EXPECT_FALSE(answer.headers.contains("evil"));
    EXPECT_TRUE(client.read_end());
  }
}

TEST(Requests, CloseIsHonoured) {
  House house;
  for (const char* headers : {" HTTP/1.1\r\nConnection: close\r\n", " HTTP/1.0\r\n"}) {
    RawClient client(house.server.port());
    ASSERT_TRUE(client.send(fmt::format("GET /echo{}\r\n", headers)));
    const Answer answer = client.read_answer();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.at("connection"), "close");
    EXPECT_TRUE(client.read_end());
  }
}

TEST(Requests, Http10) {
  House house;
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  Answer answer = client.read_answer();
  EXPECT_EQ(answer.headers.at("connection"), "keep-alive");
  ASSERT_TRUE(client.send("GET /ticks?3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  answer = client.read_answer();  // to the end of the connection
  EXPECT_FALSE(answer.headers.contains("transfer-encoding"));
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_EQ(answer.body, "tick 0\ntick 1\ntick 2\n");
}

TEST(Requests, HeadHasNoBody) {
  House house;
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send(
      "HEAD /echo HTTP/1.1\r\n\r\nHEAD /ticks?100000 HTTP/1.1\r\n\r\nGET /echo HTTP/1.1\r\n\r\n"));
  Answer answer = client.read_answer(false);
  EXPECT_EQ(answer.headers.at("content-length"), std::to_string(std::string("HEAD /echo?\n").size()));
  answer = client.read_answer(false);
  EXPECT_EQ(answer.headers.at("transfer-encoding"), "chunked");
  answer = client.read_answer();
  EXPECT_EQ(answer.body, "GET /echo?\n");
  EXPECT_TRUE(wait_until([&] { return house.service.exchanges == 0; }));
}

TEST(Requests, ExpectContinue) {
  ServerOptions options = local_options();
  options.max_request_size = 1000;
  House house(options);
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"));
  EXPECT_EQ(client.read_answer().status, 100);
  ASSERT_TRUE(client.send("hello"));
  EXPECT_EQ(client.read_answer().body, "POST /echo?\nhello");
  // One that does not wait.
  ASSERT_TRUE(client.send(post("/echo", "hello", "Expect: 100-continue\r\n")));
  EXPECT_EQ(client.read_answer().status, 200);
  // Too large: told at once, and the body is never asked for.
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"));
  EXPECT_EQ(client.read_answer().status, 413);
  EXPECT_TRUE(client.read_end());
}

TEST(Requests, ATooLargeBodyIsReadAndDropped) {
  ServerOptions options = local_options();
  options.max_request_size = 100'000;
  House house(options);
  RawClient client(house.server.port());
  for (const std::size_t size : {100'001, 400'000}) {
    ASSERT_TRUE(client.send(post("/echo", std::string(size, 'x')) + "GET /echo HTTP/1.1\r\n\r\n"));
    Answer answer = client.read_answer();
    EXPECT_EQ(answer.status, 413);
    EXPECT_EQ(answer.headers.at("content-length"), "0");
    EXPECT_FALSE(answer.headers.contains("connection"));
    EXPECT_EQ(client.read_answer().body, "GET /echo?\n");
  }
  // Far too large: not worth it.
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nxyz"));
  const Answer answer = client.read_answer();
  EXPECT_EQ(answer.status, 413);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(client.read_end());
}

TEST(Requests, ATooLargeChunkedBodyClosesAndTheAnswerArrives) {
  ServerOptions options = local_options();
  options.max_request_size = 100'000;
  House house(options);
  RawClient client(house.server.port());
  std::string chunk = fmt::format("{:x}\r\n{}\r\n", 50'000, std::string(50'000, 'x'));
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(client.send(chunk));  // and reads only then
  const Answer answer = client.read_answer();
  EXPECT_EQ(answer.status, 413);
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.headers.at("connection"), "close");
}

TEST(Requests, HeaderLimits) {
  ServerOptions options = local_options();
  options.max_header_size = 2000;
  House house(options);
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send("GET /echo HTTP/1.1\r\nA: " + std::string(3000, 'x') + "\r\n\r\n"));
  const Answer answer = client.read_answer();
  EXPECT_EQ(answer.status, 431);
  EXPECT_THAT(answer.body, HasSubstr("2000 bytes"));
  EXPECT_TRUE(client.read_end());
  RawClient slow(house.server.port());  // one header at a time
  slow.send("GET /echo HTTP/1.1\r\n");
  for (int i = 0; i < 200 && slow.send("Name: 0123456789\r\n"); ++i) {
  }
  slow.send("\r\n");
  EXPECT_NE(slow.read_answer().status, 200);
}

TEST(Requests, AnErrorIsAnsweredAfterThePipelinedOnesBeforeIt) {
  House house;
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send(post("/ticks?3", "") + "GET /echo HTTP/3.0\r\n\r\n" + post("/echo", "")));
  EXPECT_EQ(client.read_answer().status, 200);
  EXPECT_EQ(client.read_answer().status, 505);
  EXPECT_TRUE(client.read_end());
  EXPECT_EQ(house.service.handled, 1);
}

TEST(Requests, Timeouts) {
  ServerOptions options = local_options();
  options.idle_timeout = 1s;
  options.header_timeout = 1s;
  options.body_timeout = 1s;
  options.body_total_timeout = 3s;
  House house(options);
  RawClient idle(house.server.port());
  RawClient header(house.server.port());
  RawClient body(house.server.port());
  RawClient trickle(house.server.port());
  RawClient dropped(house.server.port());
  ASSERT_TRUE(header.send("GET / HT"));
  ASSERT_TRUE(body.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"));
  ASSERT_TRUE(dropped.send(fmt::format("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", (64u << 20) + 1)));
  ASSERT_TRUE(trickle.send("POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\nabc"));
  std::atomic<bool> refused{false};
  std::thread trickling([&] {
    while (!refused && trickle.send("x")) std::this_thread::sleep_for(50ms);
  });
  EXPECT_EQ(header.read_answer().status, 408);
  EXPECT_EQ(body.read_answer().status, 408);
  EXPECT_EQ(dropped.read_answer().status, 413);
  EXPECT_TRUE(dropped.read_end());
  EXPECT_TRUE(idle.read_end());
  const Answer answer = trickle.read_answer();
  EXPECT_EQ(answer.status, 408);
  EXPECT_THAT(answer.body, HasSubstr("longer than 3 s"));
  refused = true;
  trickling.join();
}

TEST(Requests, AWaitForAnAnswerHasNoTimeout) {
  ServerOptions options = local_options();
  options.idle_timeout = 1s;
  options.header_timeout = 1s;
  options.body_timeout = 1s;
  options.body_total_timeout = 1s;
  options.write_timeout = 1s;
  House house(options);
  RawClient client(house.server.port());
  ASSERT_TRUE(client.send(post("/wait", "body")));
  EXPECT_EQ(client.read_some(1, 2500ms), "");
  house.service.release();
  EXPECT_EQ(client.read_answer().body, "released");
}

TEST(Requests, WhereToListen) {
  FakeService service;
  ServerOptions options = local_options();
  Server server(options, service);
  EXPECT_NE(server.port(), 0);
  server.start();
  const auto kind = [&](const std::string& host, std::uint16_t port) {
    options.host = host;
    options.port = port;
    try {
      Server other(options, service);
    } catch (const core::Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(host)) << error.what();
      return error.kind();
    }
    return core::ErrorKind::kInternal;
  };
  EXPECT_EQ(kind("127.0.0.1", server.port()), core::ErrorKind::kOverloaded);
  EXPECT_EQ(kind("no such host", 0), core::ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind("", 0), core::ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind("203.0.113.1", 0), core::ErrorKind::kInvalidArgument);  // not an address of this machine
  options.port = 0;
  for (const char* host : {"localhost", "0.0.0.0", "::"}) {
    options.host = host;
    if (::access("/proc/net/if_inet6", F_OK) != 0 && options.host == "::")
      continue;  // a machine without IPv6
    Server other(options, service);
    other.start();
    RawClient client(other.port());
    ASSERT_TRUE(client.send("GET /echo HTTP/1.1\r\n\r\n")) << host;
    EXPECT_EQ(client.read_answer().status, 200) << host;
  }
}

}  // namespace
}  // namespace peregrine::http
