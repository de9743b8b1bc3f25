// SPDX-License-Identifier: Apache-2.0
#include "serving/served_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include "core/log.h"

namespace peregrine::serving {
namespace {

using core::Error;
using core::ErrorKind;
using core::fail;

Supervisor::Options supervisor_options(const ModelSource& source, const HostCommand& host) {
  return {.command = host.command,
          .model = source.name,
          .directory = configuration::model_files(source.directory, source.options),
          .settings = source.options.settings,
          .loading_timeout = source.options.model_loading_timeout};
}

std::uint64_t draw_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

/// A request as its owner sees it.
class OwnedGeneration final : public Generation {
 public:
  OwnedGeneration(std::uint64_t id, std::shared_ptr<Mailbox> mailbox, std::shared_ptr<CancelDoor> door)
      : id_(id), mailbox_(std::move(mailbox)), door_(std::move(door)) {}
  ~OwnedGeneration() override {
    if (mailbox_->abandon()) door_->cancel(id_);
  }

  bool take(std::vector<SequenceUpdate>& out) override { return mailbox_->take(out); }
  Timing timing() const override { return mailbox_->timing(); }

 private:
  const std::uint64_t id_;
  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<CancelDoor> door_;
};

void check_ids(const std::vector<std::int32_t>& ids, std::string_view what, const std::string& model,
               const Limits& limits) {
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= limits.vocab_size) {
      fail(ErrorKind::kInvalidArgument, "the {} has token id {}; model {} knows 0 to {}", what, id, model,
           limits.vocab_size - 1);
    }
  }
}

void check_sequences(const generation::Parameters& parameters, const std::string& model,
                     const Limits& limits) {
  const std::int32_t sequences = parameters.computed_sequences();
  const std::int32_t reported = parameters.reported_sequences();
  if (reported < 1 || reported > sequences || sequences > limits.max_sequences) {
    fail(ErrorKind::kInvalidArgument,
         "the request asks for {} of {} sequences (n, best_of, num_beams); model {} runs 1 to {} at once "
         "(option.max_rolling_batch_size)",
         reported, sequences, model, limits.max_sequences);
  }
}

/// Throws where a request could never run, whatever else does.
void check_fits(const GenerationRequest& request, const std::string& model, const Limits& limits) {
  if (!limits.generates()) {
    fail(ErrorKind::kUnsupported, "model {} is an encoder: it does not generate text", model);
  }
  check_sequences(request.parameters, model, limits);
  const auto tokens = static_cast<std::int64_t>(request.prompt_ids.size());
  if (tokens == 0) fail(ErrorKind::kInvalidArgument, "the prompt has no tokens");
  if (tokens + 1 > limits.max_model_length) {
    fail(ErrorKind::kInvalidArgument,
         "the prompt has {} tokens; model {} takes at most {} (prompt and output together): a prompt of at "
         "most {} tokens leaves room for one more",
         tokens, model, limits.max_model_length, limits.max_model_length - 1);
  }
  const auto source = static_cast<std::int64_t>(request.encoder_ids.size());
  if (limits.encoder_decoder != (source > 0)) {
    fail(ErrorKind::kInvalidArgument, "the text for the encoder has {} tokens; model {} {}", source, model,
         limits.encoder_decoder ? "is an encoder-decoder and needs one" : "has no encoder");
  }
  if (source > limits.max_model_length) {
    fail(ErrorKind::kInvalidArgument, "the text for the encoder has {} tokens; model {} takes at most {}",
         source, model, limits.max_model_length);
  }
  check_ids(request.prompt_ids, "prompt", model, limits);
  check_ids(request.encoder_ids, "text for the encoder", model, limits);
}

}  // namespace

void CancelDoor::cancel(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  if (cancel_) cancel_(id);
}

void CancelDoor::close() {
  const std::lock_guard lock(mutex_);
  cancel_ = nullptr;
}

ServedModel::ServedModel(const Surroundings& surroundings, ModelSource source, const HostCommand& host,
                         Metrics::ForModel& metrics)
    : surroundings_(surroundings),
      name_(source.name),
      options_(source.options),
      directory_(
          model_info::ModelDirectory::open(configuration::model_files(source.directory, source.options))),
      metrics_(metrics),
      pump_timer_(surroundings.loop),
      supervisor_(surroundings.loop, supervisor_options(source, host), *this),
      door_(std::make_shared<CancelDoor>([this](std::uint64_t id) { cancel(id); })) {
  metrics_.ready(false);
}

ServedModel::~ServedModel() { door_->close(); }

// ---- Any thread
// ----------------------------------------------------------------------------------------------

ModelStatus ServedModel::status() const {
  const std::lock_guard lock(mutex_);
  const bool draining = shared_.draining && shared_.phase != ModelState::kFailed;
  return {.state = draining ? ModelState::kDraining : shared_.phase,
          .error = shared_.error,
          .restarts = shared_.restarts,
          .loaded_bytes = shared_.loaded_bytes,
          .total_bytes = shared_.total_bytes,
          .queued = static_cast<std::int32_t>(shared_.queue.size()),
          .in_host = shared_.in_host,
          .job_queue_size = options_.job_queue_size,
          .host_pid = shared_.host_pid};
}

Limits ServedModel::limits() const {
  const std::lock_guard lock(mutex_);
  if (!shared_.first) fail(ErrorKind::kOverloaded, "Model is not ready: {}", name_);
  return *shared_.first;
}

std::unique_ptr<Generation> ServedModel::generate(GenerationRequest request, std::function<void()> wake) {
  try {
    check_fits(request, name_, accepting());
    const std::int32_t reported = request.parameters.reported_sequences();
    auto item = std::make_shared<Request>();
    item->mailbox = std::make_shared<Mailbox>(reported, std::move(wake));
    item->sequences.resize(static_cast<std::size_t>(reported));
    item->open = reported;
    item->places = request.parameters.computed_sequences();
    if (!request.parameters.seed) request.parameters.seed = draw_seed();
    item->request = std::move(request);
    enqueue(item);
    surroundings_.loop.post([this] { pump(); });
    return std::make_unique<OwnedGeneration>(item->id, item->mailbox, door_);
  } catch (const Error& error) {
    metrics_.request_ended(error.kind() == ErrorKind::kOverloaded ? "overloaded" : "refused");
    throw;
  }
}

Limits ServedModel::accepting() const {
  const std::lock_guard lock(mutex_);
  return shared_.accepting(name_);
}

const Limits& ServedModel::Shared::accepting(const std::string& name) const {
  if (phase == ModelState::kFailed)
    fail(ErrorKind::kOverloaded, "All model workers has been shutdown: {}", name);
  if (draining) fail(ErrorKind::kOverloaded, "Worker shutting down: {}", name);
  if (!first) fail(ErrorKind::kOverloaded, "Model is not ready: {}", name);
  return now;
}

void ServedModel::enqueue(const Item& item) {
  const std::lock_guard lock(mutex_);
  shared_.accepting(name_);
  if (!shared_.queue.has_room(item->places, options_.job_queue_size)) {
    fail(ErrorKind::kOverloaded, "Worker queue capacity exceeded for model: {}", name_);
  }
  // Under the lock, so that the order of ids is the order of the queue.
  item->id = surroundings_.next_id.fetch_add(1);
  item->submitted = Clock::now();
  shared_.queue.push(item);
  metrics_.queued(static_cast<int>(shared_.queue.size()));
}

void ServedModel::begin_drain() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(shared_.draining, true)) return;
  spdlog::info("model draining model={} queued={} in_host={}", name_, shared_.queue.size(), shared_.in_host);
}

bool ServedModel::idle() const {
  const std::lock_guard lock(mutex_);
  return shared_.queue.size() == 0 && shared_.in_host == 0;
}

bool ServedModel::loaded_once() const {
  const std::lock_guard lock(mutex_);
  return shared_.first.has_value();
}

bool ServedModel::failed() const {
  const std::lock_guard lock(mutex_);
  return shared_.phase == ModelState::kFailed;
}

void ServedModel::cancel(std::uint64_t id) {
  Item item;
  std::size_t left = 0;
  {
    const std::lock_guard lock(mutex_);
    item = shared_.queue.remove(id);
    left = shared_.queue.size();
  }
  if (!item) {
    surroundings_.loop.post([this, id] { cancel_in_host(id); });
    return;
  }
  metrics_.queued(static_cast<int>(left));
  metrics_.request_ended("cancelled");
  // Who was behind it may fit where it did not.
  surroundings_.loop.post([this] { pump(); });
  surroundings_.changed();
}

}  // namespace peregrine::serving
