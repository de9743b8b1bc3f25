// SPDX-License-Identifier: Apache-2.0
#include "serving/models.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "channel/event_loop.h"
#include "core/error.h"
#include "core/log.h"
#include "serving/served_model.h"

namespace peregrine::serving {
namespace {

using Clock = std::chrono::steady_clock;

/// For hosts to end by themselves when their channels have closed.
constexpr std::chrono::milliseconds kEndGrace{2000};
constexpr std::chrono::milliseconds kEndPoll{5};

/// Waits for processes whose channels are closed; kills what is left.
void wait_for(const std::vector<std::unique_ptr<EngineProcess>>& processes) {
  const Clock::time_point deadline = Clock::now() + kEndGrace;
  const auto ended = [](const std::unique_ptr<EngineProcess>& process) { return process->ended(); };
  while (!std::all_of(processes.begin(), processes.end(), ended) && Clock::now() < deadline) {
    std::this_thread::sleep_for(kEndPoll);
  }
  for (const auto& process : processes) {
    if (process->ended()) continue;
    spdlog::warn("engine host killed pid={} reason='it did not end within {} ms of its channel'",
                 process->pid(), kEndGrace.count());
  }
}

}  // namespace

struct Models::Impl {
  Impl(std::vector<ModelSource> sources, const HostCommand& host, Metrics& metrics) {
    const ServedModel::Surroundings surroundings{loop, next_id, [this] { notify(); }};
    for (ModelSource& source : sources) {
      if (find(source.name) != nullptr) {
        core::fail(core::ErrorKind::kInvalidArgument, "there are two models of the name {}",
                   core::quoted(source.name));
      }
      Metrics::ForModel& numbers = metrics.model(source.name);
      models.push_back(std::make_unique<ServedModel>(surroundings, std::move(source), host, numbers));
      views.push_back(models.back().get());
    }
    thread = std::thread([this] { loop.run(); });
  }

  ~Impl() {
    loop.stop();
    if (thread.joinable()) thread.join();
    // From here on, all that belongs to the loop's thread belongs to this one.
    std::vector<std::unique_ptr<EngineProcess>> processes;
    for (const auto& model : models) {
      if (auto process = model->shut_down()) processes.push_back(std::move(process));
    }
    wait_for(processes);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ServedModel* find(std::string_view name) const {
    const auto found =
        std::find_if(models.begin(), models.end(), [&](const auto& model) { return model->name() == name; });
    return found == models.end() ? nullptr : found->get();
  }

  void notify() {
    // The lock puts the change before or after a waiter's look, never between its look and its sleep.
    { const std::lock_guard lock(mutex); }
    changed.notify_all();
  }

  channel::EventLoop loop;
  std::atomic<std::uint64_t> next_id{1};
  std::mutex mutex;  ///< Of `changed` alone; taken before a model's, never inside.
  std::condition_variable changed;
  std::vector<std::unique_ptr<ServedModel>> models;
  std::vector<Model*> views;
  std::thread thread;
};

Models::Models(std::vector<ModelSource> sources, HostCommand host, Metrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(sources), host, metrics)) {}

Models::~Models() = default;

void Models::start() {
  impl_->loop.post([impl = impl_.get()] {
    for (const auto& model : impl->models) model->start();
  });
}

bool Models::wait_until_loaded() {
  const auto failed = [](const auto& model) { return model->failed(); };
  const auto loaded = [](const auto& model) { return model->loaded_once(); };
  std::unique_lock lock(impl_->mutex);
  for (;;) {
    if (std::any_of(impl_->models.begin(), impl_->models.end(), failed)) return false;
    if (std::all_of(impl_->models.begin(), impl_->models.end(), loaded)) return true;
    impl_->changed.wait(lock);
  }
}

Model* Models::find(std::string_view name) const { return impl_->find(name); }

const std::vector<Model*>& Models::all() const { return impl_->views; }

bool Models::drain(std::chrono::milliseconds limit) {
  for (const auto& model : impl_->models) model->begin_drain();
  std::unique_lock lock(impl_->mutex);
  return impl_->changed.wait_for(lock, limit, [&] {
    return std::all_of(impl_->models.begin(), impl_->models.end(),
                       [](const auto& model) { return model->idle(); });
  });
}

}  // namespace peregrine::serving
