// SPDX-License-Identifier: Apache-2.0
// Clients that mean no good, and what is left when they are gone.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <memory>
#include <random>
#include <vector>

#include "http/fake_service.h"
#include "http/raw_client.h"
#include "http/server.h"

namespace peregrine::http {
namespace {

using namespace std::chrono_literals;

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                       std::filesystem::directory_iterator());
}

class Abuse : public testing::Test {
 protected:
  Abuse() {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    server_ = std::make_unique<Server>(options, service);
    server_->start();
  }
  std::uint16_t port() const { return server_->port(); }
  void expect_alive() {
    RawClient client(port());
    ASSERT_TRUE(client.send("GET /echo HTTP/1.1\r\n\r\n"));
    EXPECT_EQ(client.read_answer().status, 200);
  }
  void expect_nothing_left() {
    EXPECT_TRUE(wait_until([&] { return service.connections == 0 && service.exchanges == 0; }));
  }

  FakeService service;

 private:
  std::unique_ptr<Server> server_;
};

TEST_F(Abuse, MutatedRequests) {
  const std::vector<std::string> seeds = {
      "POST /echo?y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
      "POST /ticks?2 HTTP/1.1\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
      "POST /stream?2 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
      "HEAD http://h/%41 HTTP/1.0\r\nA: b\r\n\r\n",
      "OPTIONS * HTTP/1.1\r\n\r\n",
  };
  std::mt19937 random(11);
  const std::string spice = "\r\n\t :;,%09afAF\"/\\?*x\x7f\xff";
  for (int round = 0; round < 3000; ++round) {
    std::string bytes;
    for (unsigned i = random() % 3 + 1; i > 0; --i) bytes += seeds[random() % seeds.size()];
    for (unsigned change = random() % 5; change > 0; --change) {
      const std::size_t at = random() % bytes.size();
      // Digits stay as they are: a stream of a million parts is not what this is about.
      if (bytes[at] >= '0' && bytes[at] <= '9') continue;
      const char c = random() % 8 == 0 ? '\0' : spice[random() % spice.size()];
      if (random() % 2 == 0 && !(c >= '0' && c <= '9')) {
        bytes[at] = c;
      } else {
        bytes.erase(at, 1 + random() % 4);
      }
      if (bytes.empty()) bytes = "x";
    }
    if (random() % 3 == 0) bytes.resize(random() % bytes.size());
    RawClient client(port());
    client.send(bytes);
    if (random() % 4 == 0) client.shut_send();
    if (random() % 4 == 0) client.read_some(1000, 5ms);
    if (random() % 4 == 0) client.reset();
    if (round % 500 == 499) expect_alive();
  }
  expect_alive();
  expect_nothing_left();
}

TEST_F(Abuse, RandomBytes) {
  std::mt19937 random(12);
  for (int round = 0; round < 1000; ++round) {
    std::string bytes(random() % 2000, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    RawClient client(port());
    client.send(bytes);
  }
  expect_alive();
  expect_nothing_left();
}

TEST_F(Abuse, DescriptorsReturn) {
  expect_alive();
  expect_nothing_left();
  const std::ptrdiff_t before = open_descriptors();
  std::vector<std::unique_ptr<RawClient>> clients;
  const std::vector<std::string> beginnings = {"",
                                               "G",
                                               "GET /wait HTTP/1.1\r\n\r\n",
                                               "POST /echo HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc",
                                               "GET /stream?10000 HTTP/1.1\r\n\r\n",
                                               "garbage\r\n\r\n"};
  for (int i = 0; i < 500; ++i) {
    clients.push_back(std::make_unique<RawClient>(port(), 4096));
    ASSERT_TRUE(clients.back()->send(beginnings[static_cast<std::size_t>(i) % beginnings.size()]));
  }
  ASSERT_TRUE(wait_until([&] { return service.connections == 500 && service.exchanges == 166; }))
      << service.connections << " connections, " << service.exchanges << " exchanges";
  expect_alive();
  for (std::size_t i = 0; i < clients.size(); ++i) {
    if (i % 2 == 0) clients[i]->reset();
  }
  clients.clear();
  expect_nothing_left();
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(Abuse, LargeBodiesShareALimit) {
  FakeService other_service;
  ServerOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  options.max_request_size = 4u << 20;
  Server server(options, other_service);
  server.start();
  const std::string body(options.max_request_size, 'x');
  const std::string head = fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.size());
  // All but a byte of more large bodies than are allowed at once.
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(head);
    clients.back()->send(std::string_view(body).substr(1));
  }
  RawClient small(server.port());
  ASSERT_TRUE(small.send("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"));
  EXPECT_EQ(small.read_answer().status, 200);
  int served = 0;
  int refused = 0;
  for (const auto& client : clients) {
    client->send("x");
    const int status = client->read_answer().status;
    served += status == 200 ? 1 : 0;
    refused += status == 503 ? 1 : 0;
  }
  EXPECT_EQ(served + refused, 20);
  EXPECT_GE(served, 15);
  EXPECT_GE(refused, 1);
  clients.clear();
  RawClient after(server.port());
  ASSERT_TRUE(after.send(head + body));
  EXPECT_EQ(after.read_answer().status, 200);
}

#ifndef __SANITIZE_ADDRESS__  // the undefined-behaviour sanitizer itself needs descriptors
TEST_F(Abuse, NoDescriptorsLeft) {
  expect_alive();
  expect_nothing_left();
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  // Room for three connections, with their clients' ends.
  const rlimit tight{static_cast<rlim_t>(open_descriptors() - 1 + 6), old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(std::make_unique<RawClient>(port()));
  rusage usage_before{};
  ::getrusage(RUSAGE_SELF, &usage_before);
  std::this_thread::sleep_for(500ms);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  // A server that tries again and again would use all of that half second.
  const auto seconds = [](const rusage& of) {
    return static_cast<double>(of.ru_utime.tv_sec + of.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(of.ru_utime.tv_usec + of.ru_stime.tv_usec);
  };
  EXPECT_LT(seconds(usage) - seconds(usage_before), 0.25);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  for (const auto& client : clients) {
    if (!client->connected()) continue;
    ASSERT_TRUE(client->send("GET /echo HTTP/1.1\r\n\r\n"));
    EXPECT_EQ(client->read_answer().status, 200);
  }
  clients.clear();
  expect_nothing_left();
}
#endif

}  // namespace
}  // namespace peregrine::http
