// SPDX-License-Identifier: Apache-2.0
// Many streams at once through the whole program, undisturbed and while its engine host is killed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <thread>

#include "support/http_client.h"
#include "support/server_process.h"
#include "system/stream_client.h"

namespace peregrine {
namespace {

using namespace std::chrono_literals;
using testing::http_request;
using testing::HttpResponse;
using testing::ServerProcess;
using testing::stream_prediction;
using testing::StreamedText;

const std::string kExample = std::string(PEREGRINE_SOURCE_DIR) + "/examples/shakespeare";
constexpr int kStreams = 32;
constexpr int kShortest = 300;

/// All requests at once, each from a thread of its own. `tokens` counts those that arrived; `switches` how
/// often the next token to arrive belonged to another stream than the one before.
struct Together {
  std::vector<StreamedText> texts;
  std::atomic<std::size_t> tokens{0};
  std::atomic<std::size_t> mid_text{0};  ///< Streams that have begun and not ended.
  std::size_t switches = 0;

  void start(std::uint16_t port, const std::vector<std::string>& requests) {
    texts.resize(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      threads_.emplace_back([this, port, i, request = requests[i]] {
        bool begun = false;
        texts[i] = stream_prediction(port, request, [&](std::size_t) {
          ++tokens;
          if (!std::exchange(begun, true)) ++mid_text;
          const std::lock_guard lock(mutex_);
          if (std::exchange(last_, i) != i) ++switches;
        });
        if (begun) --mid_text;
      });
    }
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  ~Together() { join(); }

 private:
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::size_t last_ = ~std::size_t{0};
};

class ServeStreams : public ::testing::Test {
 protected:
  /// Each request's text when nothing else runs.
  static std::vector<StreamedText> alone(std::uint16_t port, const std::vector<std::string>& requests) {
    std::vector<StreamedText> out;
    for (const std::string& request : requests) {
      out.push_back(stream_prediction(port, request));
      EXPECT_EQ(out.back().error, "");
      EXPECT_EQ(out.back().finish_reason, "length");
      EXPECT_EQ(out.back().text, out.back().final_text);
    }
    return out;
  }

  static void expect_equal(const std::vector<StreamedText>& got, const std::vector<StreamedText>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].error, "") << "stream " << i;
      EXPECT_EQ(got[i].ids, expected[i].ids) << "stream " << i;
      EXPECT_EQ(got[i].final_text, expected[i].final_text) << "stream " << i;
      EXPECT_EQ(got[i].text, expected[i].text) << "stream " << i;
      EXPECT_EQ(got[i].finish_reason, "length") << "stream " << i;
    }
  }

  static int readiness(std::uint16_t port) { return http_request(port, "GET", "/readyz").status; }

  /// Whether /readyz comes to say 503.
  static bool becomes_unready(std::uint16_t port) {
    int status = 200;
    for (int i = 0; i < 5000 && status == 200; ++i) {
      status = readiness(port);
      if (status == 200) std::this_thread::sleep_for(1ms);
    }
    return status == 503;
  }

  static void wait_until_ready(std::uint16_t port) {
    for (int i = 0; i < 6000 && readiness(port) != 200; ++i) std::this_thread::sleep_for(10ms);
    ASSERT_EQ(readiness(port), 200);
  }

  const std::vector<std::string> requests_ = testing::mixed_requests(kStreams, kShortest);
};

TEST_F(ServeStreams, TogetherEqualsAloneBesideASlowClient) {
  ServerProcess server({kExample});
  const auto expected = alone(server.port(), requests_);
  const std::size_t total = [&] {
    std::size_t sum = 0;
    for (const auto& text : expected) sum += text.ids.size();
    return sum;
  }();

  // A client that takes a byte a second of a long stream, in the smallest buffer there is.
  testing::RawConnection slow(server.port());
  const std::string body = testing::prediction_body("SLOW", 900, 5, true);
  slow.send(
      "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body);
  std::atomic<bool> finished{false};
  std::atomic<int> slow_bytes{0};
  std::thread slow_reader([&] {
    while (!finished && !slow.receive(1).empty()) {
      ++slow_bytes;
      for (int i = 0; i < 10 && !finished; ++i) std::this_thread::sleep_for(100ms);
    }
  });
  Together together;
  together.start(server.port(), requests_);
  together.join();
  finished = true;
  slow_reader.join();
  expect_equal(together.texts, expected);
  // Were they served one after another, there would be 31 switches.
  EXPECT_GT(together.switches, total / 10);
  EXPECT_LT(slow_bytes, 1000);
  EXPECT_EQ(server.stop(SIGTERM), 0) << "the slow client's answer is ready, it is its own fault";
}

TEST_F(ServeStreams, AKilledHostIsAPause) {
  // A host that takes half a second to start: however busy this machine is, the pause can be seen.
  const testing::TemporaryDirectory folder;
  const std::string slow_host = (folder.path() / "host.sh").string();
  std::ofstream(slow_host) << "sleep 0.5\nexec " PEREGRINE_BINARY " engine \"$@\"\n";
  ServerProcess server({kExample, "--engine-command", "/bin/sh", "--engine-command", slow_host});
  const auto expected = alone(server.port(), requests_);

  // Idle.
  const pid_t first = server.host();
  ::kill(first, SIGKILL);
  EXPECT_TRUE(becomes_unready(server.port()));
  const HttpResponse ping = http_request(server.port(), "GET", "/ping");
  EXPECT_EQ(ping.status, 200);
  EXPECT_THAT(ping.body, ::testing::HasSubstr("Unhealthy"));
  wait_until_ready(server.port());
  EXPECT_NE(server.host(), first);
  EXPECT_EQ(stream_prediction(server.port(), requests_[0]), expected[0]);

  // In the middle of all texts, several times.
  for (const std::size_t moment : {200u, 2000u, 5000u}) {
    Together together;
    together.start(server.port(), requests_);
    while (together.tokens < moment || together.mid_text < kStreams) {
      ASSERT_TRUE(server.running());
      std::this_thread::sleep_for(1ms);
      if (together.tokens > 9000) break;
    }
    EXPECT_EQ(together.mid_text, static_cast<std::size_t>(kStreams));
    ::kill(server.host(), SIGKILL);
    EXPECT_TRUE(becomes_unready(server.port()));
    EXPECT_EQ(http_request(server.port(), "GET", "/ping").status, 200);
    together.join();
    expect_equal(together.texts, expected);
    wait_until_ready(server.port());
  }
  EXPECT_THAT(http_request(server.port(), "GET", "/metrics").body,
              ::testing::ContainsRegex("peregrine_host_restarts_total\\{[^}]*\\} 4"));
  EXPECT_EQ(server.stop(SIGTERM), 0);
}

TEST_F(ServeStreams, StopLetsStreamsFinish) {
  ServerProcess server({kExample});
  const auto expected = alone(server.port(), {requests_[0], requests_[1]});
  Together together;
  together.start(server.port(), {requests_[0], requests_[1]});
  while (together.mid_text < 2 && server.running()) std::this_thread::sleep_for(1ms);
  server.signal(SIGTERM);
  for (int i = 0; i < 2000 && readiness(server.port()) == 200; ++i) std::this_thread::sleep_for(1ms);
  const HttpResponse refused =
      http_request(server.port(), "POST", "/invocations", testing::prediction_body("late", 3, -1, false));
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.headers.contains("retry-after"));
  EXPECT_EQ(server.stop(0), 0);
  together.join();
  expect_equal(together.texts, expected);
}

}  // namespace
}  // namespace peregrine
