// SPDX-License-Identifier: Apache-2.0
#include "serving/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace peregrine::serving {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, SaysWhatRuns) {
  Metrics metrics;
  metrics.model("m");
  EXPECT_THAT(metrics.text(), HasSubstr("peregrine_build_info{version=\""));
  EXPECT_THAT(metrics.text(),
              HasSubstr("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds "));
  EXPECT_THAT(metrics.text(), HasSubstr("# TYPE peregrine_request_queue_seconds histogram"));
}

TEST(Metrics, TotalsSurviveRestarts) {
  Metrics metrics;
  Metrics::ForModel& model = metrics.model("m");
  EXPECT_EQ(&model, &metrics.model("m"));
  model.preemptions(3);
  model.preemptions(5);
  model.steps(100);
  model.host_restarted();
  model.preemptions(5);
  model.steps(0);
  model.steps(1);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("peregrine_preemptions_total{model=\"m\"} 10\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_engine_steps_total{model=\"m\"} 101\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_host_restarts_total{model=\"m\"} 1\n"));
}

TEST(Metrics, EachModelHasItsOwn) {
  Metrics metrics;
  metrics.model("a").ready(true);
  metrics.model("b").ready(false);
  metrics.model("b").queued(4);
  metrics.model("b").request_ended("length");
  metrics.model("b").request_ended("length");
  metrics.model("b").engine(1, 2, 3, 4);
  metrics.model("b").inter_token_latency(0.09, 3);
  metrics.model("b").step(5);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("peregrine_model_ready{model=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_model_ready{model=\"b\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_queued_requests{model=\"b\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_requests_total{model=\"b\",outcome=\"length\"} 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("peregrine_requests_total{model=\"a\"")));
  EXPECT_THAT(text, HasSubstr("peregrine_engine_running_sequences{model=\"b\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_engine_waiting_requests{model=\"b\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_kv_blocks_used{model=\"b\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_kv_blocks{model=\"b\"} 4\n"));
  // Three gaps of 30 ms.
  EXPECT_THAT(text, HasSubstr("peregrine_inter_token_latency_seconds_count{model=\"b\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_inter_token_latency_seconds_bucket{model=\"b\",le=\"0.02\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_inter_token_latency_seconds_bucket{model=\"b\",le=\"0.04\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_engine_batch_size_bucket{model=\"b\",le=\"8\"} 1\n"));
}

TEST(Metrics, CountsHttp) {
  Metrics metrics;
  metrics.http_request("/predictions/{model}", 200, 0.02);
  metrics.http_request("/predictions/{model}", 200, 0.02);
  metrics.http_request("/predictions/{model}", 503, 0.02);
  metrics.http_connections(3);
  metrics.http_connections(-1);
  const std::string text = metrics.text();
  EXPECT_THAT(text,
              HasSubstr("peregrine_http_requests_total{route=\"/predictions/{model}\",status=\"200\"} 2\n"));
  EXPECT_THAT(text,
              HasSubstr("peregrine_http_requests_total{route=\"/predictions/{model}\",status=\"503\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_http_request_seconds_count{route=\"/predictions/{model}\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("peregrine_http_connections 2\n"));
}

TEST(Metrics, FromManyThreads) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        metrics.model(i % 2 == 0 ? "a" : "b").request_ended("length");
        metrics.http_request("/ping", 200, 0.001);
        if (i % 100 != 0) continue;
        EXPECT_THAT(metrics.text(), HasSubstr("peregrine_http"));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(metrics.text(), HasSubstr("peregrine_requests_total{model=\"a\",outcome=\"length\"} 1000\n"));
}

}  // namespace
}  // namespace peregrine::serving
