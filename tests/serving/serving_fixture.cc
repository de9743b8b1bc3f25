// SPDX-License-Identifier: Apache-2.0
#include "serving/serving_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "core/log.h"

namespace peregrine::serving {

std::vector<SequenceResult> expected(const GenerationRequest& request, std::int64_t max_model_length) {
  const generation::Parameters& parameters = request.parameters;
  const auto& text = request.encoder_ids.empty() ? request.prompt_ids : request.encoder_ids;
  const std::size_t size = text.size();
  const auto room = static_cast<std::size_t>(max_model_length) - request.prompt_ids.size();
  const std::size_t most = std::min(static_cast<std::size_t>(parameters.max_new_tokens), room);
  std::vector<SequenceResult> results(static_cast<std::size_t>(parameters.reported_sequences()));
  if (parameters.prompt_logprobs) {
    results[0].prompt.assign(request.prompt_ids.begin() + 1, request.prompt_ids.end());
  }
  for (std::size_t s = 0; s < results.size(); ++s) {
    SequenceResult& result = results[s];
    result.finish = generation::FinishReason::kLength;
    if (parameters.num_beams > 1) result.score = -static_cast<float>(s + 1) / 4.0f;
    for (std::size_t i = 0; i < most; ++i) {
      const std::int32_t id = text[(i + s) % size];
      result.ids.push_back(id);
      result.log_probs.push_back(-static_cast<float>(i % 8) / 8.0f);
      if (std::ranges::count(parameters.eos_token_ids, id) > 0) {
        result.finish = generation::FinishReason::kEosToken;
        break;
      }
    }
  }
  return results;
}

Client::Client(Model& model, const GenerationRequest& request)
    : results_(static_cast<std::size_t>(std::max(request.parameters.reported_sequences(), 0))) {
  generation_ = model.generate(request, [bell = bell_] {
    const std::lock_guard lock(bell->mutex);
    ++bell->count;
    bell->rung.notify_all();
  });
}

bool Client::take() {
  {
    std::unique_lock lock(bell_->mutex);
    if (!bell_->rung.wait_for(lock, kPatience, [this] { return bell_->count > 0; })) {
      ADD_FAILURE() << "nothing came";
      throw core::Error(core::ErrorKind::kDeadline, "nothing came");
    }
    bell_->count = 0;
  }
  std::vector<SequenceUpdate> updates;
  const bool all = generation_->take(updates);
  std::vector<bool> seen(results_.size(), false);
  for (const SequenceUpdate& update : updates) {
    const auto index = static_cast<std::size_t>(update.sequence);
    EXPECT_FALSE(seen.at(index)) << "two updates of one sequence";
    seen.at(index) = true;
    SequenceResult& result = results_.at(index);
    EXPECT_FALSE(result.finish.has_value()) << "something came after the end";
    for (const generation::SampledToken& token : update.prompt) result.prompt.push_back(token.token.id);
    for (const generation::SampledToken& token : update.tokens) {
      result.ids.push_back(token.token.id);
      result.log_probs.push_back(token.token.log_prob);
    }
    result.finish = update.finish;
    result.score = update.score;
  }
  return all;
}

const std::vector<SequenceResult>& Client::finish() {
  while (!take()) {
  }
  return results_;
}

void Client::wait_for_tokens(std::size_t count) {
  while (tokens() < count && !take()) {
  }
}

core::Error Client::wait_for_error() {
  try {
    finish();
  } catch (const core::Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error came";
  return {core::ErrorKind::kInternal, "no error came"};
}

std::size_t Client::tokens() const {
  std::size_t count = 0;
  for (const SequenceResult& result : results_) count += result.ids.size();
  return count;
}

ServingTest::ServingTest() {
  const char* level = std::getenv("PEREGRINE_TEST_LOG");
  core::configure_logging(level == nullptr ? "off" : level);
}

ModelSource ServingTest::source(const std::string& name) {
  return {.name = name,
          .directory = std::filesystem::path(PEREGRINE_SOURCE_DIR) / "examples" / "shakespeare",
          .options = {}};
}

HostCommand ServingTest::echo(std::vector<std::string> flags) {
  flags.insert(flags.begin(), PEREGRINE_ECHO_HOST);
  return {.command = std::move(flags)};
}

HostCommand ServingTest::bad(const std::string& plan, std::vector<std::string> flags) {
  std::vector<std::string> command = {PEREGRINE_BAD_HOST, plan, (folder_.path() / "starts").string()};
  for (const std::string& word : echo(std::move(flags)).command) command.push_back(word);
  return {.command = std::move(command)};
}

int ServingTest::bad_starts() const {
  int starts = 0;
  std::ifstream(folder_.path() / "starts") >> starts;
  return starts;
}

std::vector<std::string> ServingTest::recorded() const {
  std::vector<std::string> lines;
  std::ifstream file(folder_.path() / "starts.record");
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void ServingTest::start(const HostCommand& host, std::vector<ModelSource> sources) {
  models_ = std::make_unique<Models>(std::move(sources), host, metrics_);
  models_->start();
}

void ServingTest::serve(const HostCommand& host, const ModelSource& what) {
  start(host, {what});
  ASSERT_TRUE(models_->wait_until_loaded()) << models_->all()[0]->status().error;
}

GenerationRequest ServingTest::request(int index, std::int32_t max_new_tokens, std::int32_t n) {
  GenerationRequest request;
  request.request_id = "test-" + std::to_string(index);
  for (int i = 0; i < 3 + index % 17; ++i) request.prompt_ids.push_back((index * 31 + i * 7) % 997);
  request.parameters.max_new_tokens = max_new_tokens;
  request.parameters.n = n;
  request.parameters.best_of = n;
  return request;
}

void ServingTest::kill_host() {
  const int pid = model().status().host_pid;
  if (pid > 0) ::kill(pid, SIGKILL);
}

double ServingTest::metric(const std::string& line) const {
  std::istringstream text(metrics_.text());
  for (std::string found; std::getline(text, found);) {
    if (found.starts_with(line + " ")) return std::stod(found.substr(line.size()));
  }
  return 0;
}

bool ServingTest::eventually(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

std::size_t descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

bool has_children() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

}  // namespace peregrine::serving
