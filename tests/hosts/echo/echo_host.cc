// SPDX-License-Identifier: Apache-2.0
#include "hosts/echo/echo_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "channel/convert.h"

namespace peregrine::echo {
namespace {

using core::ErrorKind;
using std::chrono::milliseconds;

constexpr std::size_t kInvokeChunk = 64u << 10;
constexpr std::uint64_t kLoadBytes = 1000;  ///< What a load says that it has to read.

}  // namespace

EchoHost::EchoHost(Options options, channel::HostLink& link, channel::EventLoop& loop, std::uint64_t epoch,
                   std::function<void()> on_drained)
    : options_(std::move(options)),
      link_(link),
      loop_(loop),
      epoch_(epoch),
      on_drained_(std::move(on_drained)),
      step_timer_(loop) {}

void EchoHost::handle(const wire::ToHost& message) {
  wire::FromHost answer;
  switch (message.kind_case()) {
    case wire::ToHost::kPlanModel:
      answer.mutable_plan()->set_model(message.plan_model().model());
      link_.send(answer);
      return;
    case wire::ToHost::kLoadModel:
      return load(message.load_model());
    case wire::ToHost::kUnload:
      return unload(message.unload().model());
    case wire::ToHost::kSubmit:
      return submit(message.submit());
    case wire::ToHost::kCancel:
      return cancel(message.cancel());
    case wire::ToHost::kGetStats:
      return send_stats(message.get_stats().model());
    case wire::ToHost::kDrain:
      draining_ = true;
      return end_when_drained();
    case wire::ToHost::kPing:
      answer.mutable_pong()->set_number(message.ping().number());
      link_.send(answer);
      return;
    case wire::ToHost::kInvoke:
      return invoke(message.invoke());
    case wire::ToHost::kVocabulary:
      return;  // Nothing here looks at text.
    default:
      return refuse("", 0,
                    core::Error(ErrorKind::kUnsupported,
                                fmt::format("messages of kind {} are not supported by this host",
                                            static_cast<int>(message.kind_case()))));
  }
}

void EchoHost::refuse(const std::string& model, std::uint64_t request, const core::Error& error) {
  wire::FromHost answer;
  answer.mutable_refused()->set_model(model);
  answer.mutable_refused()->set_request(request);
  channel::to_message(error, *answer.mutable_refused()->mutable_error());
  link_.send(answer);
}

EchoModel& EchoHost::find(const std::string& model) {
  const auto found = models_.find(model);
  if (found == models_.end()) {
    core::fail(ErrorKind::kNotFound, "no model '{}' is loaded here", core::quoted(model));
  }
  return found->second;
}

void EchoHost::load(const wire::LoadModel& message) {
  const std::string& model = message.model();
  if (models_.contains(model) || loading_.contains(model)) {
    return refuse(model, 0, core::Error(ErrorKind::kInvalidArgument, "the model is loaded already"));
  }
  wire::FromHost answer;
  wire::LoadProgress& progress = *answer.mutable_load_progress();
  progress.set_model(model);
  progress.set_done_bytes(kLoadBytes / 2);
  progress.set_total_bytes(kLoadBytes);
  link_.send(answer);
  const auto [timer, _] = loading_.emplace(model, channel::EventLoop::Timer(loop_));
  timer->second.start(milliseconds(options_.load_ms), [this, model] { finish_load(model); });
}

void EchoHost::finish_load(const std::string& model) {
  loading_.erase(model);
  wire::FromHost answer;
  if (!options_.fail_load.empty()) {
    answer.mutable_load_failed()->set_model(model);
    channel::to_message(core::Error(ErrorKind::kInvalidArgument, options_.fail_load),
                        *answer.mutable_load_failed()->mutable_error());
    link_.send(answer);
    return;
  }
  wire::LoadProgress& progress = *answer.mutable_load_progress();
  progress.set_model(model);
  progress.set_done_bytes(kLoadBytes);
  progress.set_total_bytes(kLoadBytes);
  link_.send(answer);
  models_.emplace(model, EchoModel(model, options_));
  if (options_.embedding_size > 0) encoders_.emplace(model, EchoEncoder(model, options_));
  wire::Loaded& loaded = *answer.mutable_loaded();
  loaded.set_model(model);
  loaded.mutable_plan()->set_model(model);
  loaded.set_vocab_size(options_.vocab);
  loaded.set_max_model_length(options_.max_model_len);
  loaded.set_max_sequences(options_.max_sequences);
  loaded.set_device("echo");
  loaded.set_encoder_decoder(options_.encoder_decoder);
  loaded.set_embedding_size(options_.embedding_size);
  loaded.set_labels(options_.labels);
  link_.send(answer);
}

void EchoHost::unload(const std::string& model) {
  if (models_.erase(model) + loading_.erase(model) == 0) {
    return refuse(model, 0, core::Error(ErrorKind::kNotFound, "no such model is loaded here"));
  }
  encoders_.erase(model);
  std::erase_if(invokes_, [&](const auto& entry) { return entry.second.invoke.model() == model; });
  wire::FromHost answer;
  answer.mutable_unloaded()->set_model(model);
  link_.send(answer);
  end_when_drained();
}

void EchoHost::submit(const wire::Submit& message) {
  try {
    if (draining_) core::fail(ErrorKind::kOverloaded, "the host is draining");
    EchoModel& model = find(message.model());
    const auto encoder = encoders_.find(message.model());
    if (encoder != encoders_.end()) {
      encoder->second.submit(message);
    } else {
      model.submit(message);
    }
  } catch (const core::Error& error) {
    return refuse(message.model(), message.request(), error);
  }
  schedule_step();
}

void EchoHost::cancel(const wire::Cancel& message) {
  const auto model = models_.find(message.model());
  if (model != models_.end()) model->second.cancel(message.request());
  const auto encoder = encoders_.find(message.model());
  if (encoder != encoders_.end()) encoder->second.cancel(message.request());
  invokes_.erase(message.request());
  end_when_drained();
}

void EchoHost::send_stats(const std::string& model) {
  wire::FromHost answer;
  try {
    find(model).stats(*answer.mutable_stats());
  } catch (const core::Error& error) {
    return refuse(model, 0, error);
  }
  link_.send(answer);
}

void EchoHost::invoke(const wire::Invoke& message) {
  try {
    if (!options_.invoke_echo) core::fail(ErrorKind::kUnsupported, "this host does not do Invoke");
    if (draining_) core::fail(ErrorKind::kOverloaded, "the host is draining");
    find(message.model());
    if (!invokes_.try_emplace(message.request(), OpenInvoke{message}).second) {
      core::fail(ErrorKind::kInvalidArgument, "request {} is here already", message.request());
    }
  } catch (const core::Error& error) {
    return refuse(message.model(), message.request(), error);
  }
  continue_invoke(message.request());
}

void EchoHost::continue_invoke(std::uint64_t request) {
  const auto found = invokes_.find(request);
  if (found == invokes_.end()) return;  // cancelled
  OpenInvoke& open = found->second;
  const std::string& body = open.invoke.body();
  const std::size_t count = std::min(kInvokeChunk, body.size() - open.sent);
  wire::FromHost answer;
  wire::InvokeChunk& chunk = *answer.mutable_invoke_chunk();
  chunk.set_model(open.invoke.model());
  chunk.set_request(request);
  if (open.sent == 0) {
    chunk.set_status(200);
    *chunk.mutable_properties() = open.invoke.properties();
  }
  chunk.set_data(body.data() + open.sent, count);
  open.sent += count;
  const bool last = open.sent == body.size();
  chunk.set_last(last);
  link_.send(answer);
  if (last) {
    invokes_.erase(found);
    end_when_drained();
  } else {
    // Others' tokens go between the chunks.
    loop_.post([this, request] { continue_invoke(request); });
  }
}

bool EchoHost::has_work() const {
  const auto busy = [](const auto& entry) { return !entry.second.idle(); };
  return std::ranges::any_of(models_, busy) || std::ranges::any_of(encoders_, busy);
}

void EchoHost::schedule_step() {
  if (step_scheduled_ || !has_work()) return;
  step_scheduled_ = true;
  if (options_.step_ms == 0) {
    loop_.post([this] { step(); });
  } else {
    step_timer_.start(milliseconds(options_.step_ms), [this] { step(); });
  }
}

void EchoHost::step() {
  step_scheduled_ = false;
  for (auto& [name, model] : models_) {
    if (model.idle()) continue;
    wire::FromHost message;
    model.step(*message.mutable_events());
    link_.send(message);
    ++steps_;
    crash_or_hang_when_due();
  }
  for (auto& [name, encoder] : encoders_) {
    if (encoder.idle()) continue;
    encoder.step([this](const wire::FromHost& message) { link_.send(message); });
    ++steps_;
    crash_or_hang_when_due();
  }
  schedule_step();
  end_when_drained();
}

void EchoHost::crash_or_hang_when_due() {
  if (epoch_ > options_.crash_epochs) return;
  if (steps_ == options_.crash_after_steps) std::abort();
  while (steps_ == options_.hang_after_steps) std::this_thread::sleep_for(std::chrono::hours(1));
}

void EchoHost::end_when_drained() {
  if (!draining_ || has_work() || !invokes_.empty()) return;
  wire::FromHost answer;
  answer.mutable_drained();
  link_.send(answer);
  on_drained_();
}

void run_echo_host(const Options& options) {
  // Never destroyed: when the server goes, the loop's thread may be in the middle of anything, or hang.
  auto& link = *new channel::HostLink(options.channel_fd);
  auto& loop = *new channel::EventLoop;
  try {
    std::vector<std::string> capabilities{"generate"};
    if (options.embedding_size > 0) capabilities = {"embed", "classify"};
    if (options.invoke_echo) capabilities.emplace_back("invoke");
    const wire::Hello hello = link.greet("echo", capabilities);
    auto& host = *new EchoHost(options, link, loop, hello.epoch(), [] { std::_Exit(0); });
    std::thread([&loop] { loop.run(); }).detach();
    for (wire::ToHost message; link.receive(message); message.Clear()) {
      loop.post([&host, message = std::move(message)] { host.handle(message); });
    }
  } catch (const core::Error& error) {
    fmt::print(stderr, "peregrine_echo_host: {}\n", error.what());
    std::_Exit(core::exit_code(error.kind()));
  }
  std::_Exit(0);
}

}  // namespace peregrine::echo
