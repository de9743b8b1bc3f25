// SPDX-License-Identifier: Apache-2.0
// The side of a model that works on the loop's thread: what goes to its engine host, and what comes back.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "channel/convert.h"
#include "core/log.h"
#include "serving/served_model.h"

namespace peregrine::serving {
namespace {

namespace wire = channel::wire;
using core::Error;
using core::ErrorKind;
using core::fail;

/// A host that hangs must not fill our memory with requests that come and are cancelled; twice the largest
/// message.
constexpr std::size_t kMostUnsent = 256u << 20;
constexpr std::chrono::milliseconds kPumpPause{100};

double seconds_between(Request::Clock::time_point from, Request::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Tokens that the client gave.
std::int64_t prompt_tokens(const Request& request) {
  const auto& ids = request.encode                        ? request.encode->request.ids
                    : request.request.encoder_ids.empty() ? request.request.prompt_ids
                                                          : request.request.encoder_ids;
  return static_cast<std::int64_t>(ids.size());
}

}  // namespace

// ---- Life of the host
// ----------------------------------------------------------------------------------------

void ServedModel::on_started(int pid, std::uint64_t epoch) {
  asked_stats_ = false;
  if (epoch > 1) metrics_.host_restarted();
  const std::lock_guard lock(mutex_);
  shared_.host_pid = pid;
  shared_.restarts = epoch - 1;
  shared_.loaded_bytes = 0;
  shared_.total_bytes = 0;
}

void ServedModel::on_progress(std::uint64_t done_bytes, std::uint64_t total_bytes) {
  const std::lock_guard lock(mutex_);
  shared_.loaded_bytes = done_bytes;
  shared_.total_bytes = total_bytes;
}

void ServedModel::on_loaded(const wire::Loaded& loaded) {
  const Limits limits{.vocab_size = loaded.vocab_size(),
                      .max_model_length = loaded.max_model_length(),
                      .max_sequences = loaded.max_sequences(),
                      .embedding_size = loaded.embedding_size(),
                      .labels = loaded.labels(),
                      .encoder_decoder = loaded.encoder_decoder()};
  {
    const std::lock_guard lock(mutex_);
    if (shared_.first && shared_.now != limits) {
      spdlog::warn(
          "model limits changed model={} epoch={} vocab_size={} max_model_length={} max_sequences={} "
          "before_vocab_size={} before_max_model_length={} before_max_sequences={}",
          name_, supervisor_.epoch(), limits.vocab_size, limits.max_model_length, limits.max_sequences,
          shared_.now.vocab_size, shared_.now.max_model_length, shared_.now.max_sequences);
    }
    if (!shared_.first) shared_.first = limits;
    shared_.now = limits;
    shared_.phase = ModelState::kReady;
    shared_.loaded_bytes = std::max(shared_.loaded_bytes, shared_.total_bytes);
    shared_.queue.open(limits.max_sequences);
  }
  vocab_size_ = limits.vocab_size;
  metrics_.ready(true);
  metrics_.engine(0, 0, 0, static_cast<int>(loaded.plan().kv_blocks()));
  send_vocabulary();
  replay();
  pump();
  surroundings_.changed();
}

void ServedModel::on_lost() {
  {
    const std::lock_guard lock(mutex_);
    if (shared_.first) shared_.phase = ModelState::kRestarting;
    shared_.host_pid = 0;
    shared_.queue.close();
  }
  metrics_.ready(false);
  metrics_.engine(0, 0, 0, 0);
  surroundings_.changed();
}

void ServedModel::on_failed(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    shared_.phase = ModelState::kFailed;
    shared_.error = error.what();
    shared_.host_pid = 0;
    shared_.queue.close();
  }
  metrics_.ready(false);
  metrics_.engine(0, 0, 0, 0);
  fail_all(Error(ErrorKind::kOverloaded, fmt::format("All model workers has been shutdown: {}", name_)));
}

std::unique_ptr<EngineProcess> ServedModel::shut_down() {
  door_->close();
  std::unique_ptr<EngineProcess> process = supervisor_.release();
  {
    const std::lock_guard lock(mutex_);
    shared_.phase = ModelState::kFailed;
    shared_.error = "server is shutting down";
    shared_.host_pid = 0;
  }
  metrics_.ready(false);
  fail_all(Error(ErrorKind::kOverloaded, "server is shutting down"));
  return process;
}

// ---- To the host
// ---------------------------------------------------------------------------------------------

void ServedModel::pump() {
  while (supervisor_.unsent_bytes() < kMostUnsent) {
    Item item;
    {
      const std::lock_guard lock(mutex_);
      shared_.queue.release(std::exchange(released_, 0));
      item = shared_.queue.pop();
    }
    if (!item) break;
    in_host_.emplace(item->id, item);
    submit(*item);
  }
  publish_counts();
  if (supervisor_.unsent_bytes() >= kMostUnsent) pump_timer_.start(kPumpPause, [this] { pump(); });
}

void ServedModel::replay() {
  if (in_host_.empty()) return;
  spdlog::info("replaying requests model={} epoch={} requests={}", name_, supervisor_.epoch(),
               in_host_.size());
  // A copy: what cannot be submitted leaves in_host_.
  std::vector<Item> items;
  for (const auto& [id, item] : in_host_) items.push_back(item);
  for (const Item& item : items) submit(*item);
}

void ServedModel::submit(Request& request) {
  wire::ToHost message;
  wire::Submit& submit = *message.mutable_submit();
  submit.set_model(name_);
  submit.set_request(request.id);
  if (request.encode) {
    write_encode(request, submit);
  } else {
    write_generate(request, submit);
  }
  if (!std::exchange(request.was_sent, true)) {
    request.timing.queued_seconds = seconds_between(request.submitted, Clock::now());
    request.publish_timing();
    metrics_.queue_time(request.timing.queued_seconds);
    metrics_.prompt_tokens(prompt_tokens(request));
  }
  spdlog::debug("request submitted model={} request_id={} id={} epoch={} prompt_tokens={}", name_,
                core::quoted(request.client_id()), request.id, supervisor_.epoch(), prompt_tokens(request));
  try {
    supervisor_.send(message);
  } catch (const Error& error) {
    fail_request(request.id, error, "refused");
  }
}

void ServedModel::write_generate(const Request& request, wire::Submit& submit) {
  const GenerationRequest& asked = request.request;
  submit.set_kind(wire::GENERATE);
  submit.mutable_prompt_ids()->Add(asked.prompt_ids.begin(), asked.prompt_ids.end());
  submit.mutable_encoder_ids()->Add(asked.encoder_ids.begin(), asked.encoder_ids.end());
  channel::to_message(asked.parameters, *submit.mutable_sampling());
  submit.set_seed(asked.parameters.seed.value_or(0));
  // On replay. Beams begin anew: what came of them were hypotheses, not the beams.
  if (!request.was_sent || asked.parameters.num_beams > 1) return;
  for (const Request::Sequence& sequence : request.sequences) {
    submit.add_generated()->mutable_ids()->Add(sequence.generated.begin(), sequence.generated.end());
  }
}

void ServedModel::cancel_in_host(std::uint64_t id) {
  const auto place = in_host_.find(id);
  if (place == in_host_.end()) return;
  wire::ToHost message;
  message.mutable_cancel()->set_model(name_);
  message.mutable_cancel()->set_request(id);
  supervisor_.send(message);
  forget(place, "cancelled");
  // Without a further step nothing else would say that its blocks are free.
  ask_stats();
  pump();
}

void ServedModel::ask_stats() {
  if (std::exchange(asked_stats_, true)) return;
  wire::ToHost message;
  message.mutable_get_stats()->set_model(name_);
  supervisor_.send(message);
}

// ---- From the host
// -------------------------------------------------------------------------------------------

void ServedModel::on_message(const wire::FromHost& message) {
  if (message.has_events()) {
    on_events(message.events());
  } else if (message.has_result()) {
    on_result(message.result());
  } else if (message.has_refused()) {
    on_refused(message.refused());
  } else if (message.has_stats()) {
    asked_stats_ = false;
    on_stats(message.stats());
  }  // Others answer what was not asked.
}

void ServedModel::on_events(const wire::Events& events) {
  const Clock::time_point now = Clock::now();
  supervisor_.completed_step();
  std::vector<Delivery> deliveries;
  std::string broken;
  try {
    if (events.model() != name_) {
      fail(ErrorKind::kDataLoss, "it sent events of model {}", core::quoted(events.model()));
    }
    for (const wire::SequenceEvent& event : events.sequences()) on_event(event, now, deliveries);
  } catch (const Error& error) {
    broken = error.what();
  }
  if (events.has_stats()) {
    on_stats(events.stats());
    // Those that ended in this step were in its batch.
    const auto ended = std::count_if(deliveries.begin(), deliveries.end(), [](const Delivery& delivery) {
      return delivery.update.finish.has_value();
    });
    metrics_.step(std::max(events.stats().running(), 0) + static_cast<int>(ended) +
                  std::exchange(encoded_in_step_, 0));
  }
  pump();
  // Last: who learns that his request has ended finds its place free. And together: the thread that writes to
  // the clients wakes once for the whole step.
  for (Delivery& delivery : deliveries) delivery.wake = delivery.to->put(std::move(delivery.update));
  for (const Delivery& delivery : deliveries) {
    if (delivery.wake) delivery.to->wake();
  }
  if (!broken.empty()) supervisor_.broken(broken);
}

std::vector<generation::SampledToken> ServedModel::receive_tokens(const wire::SequenceEvent& event,
                                                                  const Request& request) const {
  const auto& sequence = request.sequences[static_cast<std::size_t>(event.sequence())];
  const auto limit = static_cast<std::size_t>(std::max(request.request.parameters.max_new_tokens, 0));
  const auto count = static_cast<std::size_t>(event.tokens_size());
  if (sequence.generated.size() + count > limit) {
    fail(ErrorKind::kDataLoss,
         "it sent {} tokens for sequence {} of request {}, which has {} and asked for {}", count,
         event.sequence(), request.id, sequence.generated.size(), limit);
  }
  std::vector<generation::SampledToken> tokens;
  tokens.reserve(count);
  for (const wire::SampledToken& token : event.tokens()) tokens.push_back(receive_token(token, request));
  return tokens;
}

generation::SampledToken ServedModel::receive_token(const wire::SampledToken& token,
                                                    const Request& request) const {
  generation::SampledToken received = channel::from_message(token);
  const auto known = [this](std::int32_t id) { return id >= 0 && id < vocab_size_; };
  if (!known(token.id()) || !std::all_of(received.top.begin(), received.top.end(),
                                         [&](const auto& top) { return known(top.id); })) {
    fail(ErrorKind::kDataLoss, "it sent token {} for request {}, with a vocabulary of {}", token.id(),
         request.id, vocab_size_);
  }
  return received;
}

std::vector<generation::SampledToken> ServedModel::receive_prompt(const wire::SequenceEvent& event,
                                                                  Request& request) const {
  std::vector<generation::SampledToken> tokens;
  const std::vector<std::int32_t>& prompt = request.request.prompt_ids;
  for (int i = 0; i < event.prompt_size(); ++i) {
    const std::int64_t position = std::int64_t{event.prompt_start()} + i;
    // What a replay says again.
    if (position >= 0 && position < request.next_prompt) continue;
    if (position != request.next_prompt || position >= static_cast<std::int64_t>(prompt.size()) ||
        event.prompt(i).id() != prompt[static_cast<std::size_t>(position)]) {
      fail(ErrorKind::kDataLoss, "it sent token {} of the prompt of request {}, which has {}, as {} after {}",
           position, request.id, prompt.size(), event.prompt(i).id(), request.next_prompt - 1);
    }
    tokens.push_back(receive_token(event.prompt(i), request));
    ++request.next_prompt;
  }
  return tokens;
}

void ServedModel::on_event(const wire::SequenceEvent& event, Clock::time_point now,
                           std::vector<Delivery>& deliveries) {
  const auto place = in_host_.find(event.request());
  if (place == in_host_.end()) return;  // Cancelled, and on its way before the host knew.
  Request& request = *place->second;
  if (event.sequence() < 0 || event.sequence() >= static_cast<std::int32_t>(request.sequences.size())) {
    fail(ErrorKind::kDataLoss, "it sent an event of sequence {} of request {}, which has {}",
         event.sequence(), request.id, request.sequences.size());
  }
  Request::Sequence& sequence = request.sequences[static_cast<std::size_t>(event.sequence())];
  SequenceUpdate update;
  update.sequence = event.sequence();
  update.prompt = receive_prompt(event, request);
  // On replay the host says again how a sequence ended, or goes on with one that ended in an error.
  if (!sequence.ended) {
    update.tokens = receive_tokens(event, request);
    update.finish = channel::from_message(event.finish());
  }
  if (update.prompt.empty() && update.tokens.empty() && !update.finish) return;

  for (const generation::SampledToken& token : update.tokens) sequence.generated.push_back(token.token.id);
  count_tokens(request, sequence, static_cast<int>(update.tokens.size()), now);
  const auto finish = update.finish;
  if (finish) {
    update.error = event.error();
    if (event.has_score()) update.score = event.score();
    end_sequence(request, sequence, *finish);
  }
  deliveries.push_back({request.mailbox, std::move(update)});
  if (!finish) return;
  if (*finish == generation::FinishReason::kError) {
    spdlog::warn("sequence failed model={} request_id={} sequence={} error={}", name_,
                 core::quoted(request.client_id()), event.sequence(), core::quoted(event.error(), 500));
  }
  if (request.open == 0) forget(place, generation::to_string(*finish));
}

void ServedModel::end_sequence(Request& request, Request::Sequence& sequence,
                               generation::FinishReason reason) {
  sequence.ended = true;
  sequence.ended_early =
      reason == generation::FinishReason::kError || reason == generation::FinishReason::kAbort;
  --request.open;
  // Beams run until the search as a whole has ended.
  if (request.request.parameters.num_beams > 1) return;
  --request.places;
  ++released_;
}

void ServedModel::count_tokens(Request& request, Request::Sequence& sequence, int count,
                               Clock::time_point now) {
  if (count == 0) return;
  metrics_.generated_tokens(count);
  if (request.timing.first_token_seconds == 0) {
    request.timing.first_token_seconds = std::max(seconds_between(request.submitted, now), 1e-9);
    request.publish_timing();
    metrics_.time_to_first_token(request.timing.first_token_seconds);
  }
  if (sequence.last_token != Clock::time_point{}) {
    metrics_.inter_token_latency(seconds_between(sequence.last_token, now), count);
  }
  sequence.last_token = now;
}

void ServedModel::on_refused(const wire::Refused& refused) {
  const Error error = channel::from_message(refused.error());
  if (refused.request() == 0) {
    asked_stats_ = false;
    spdlog::warn("engine host refused a message model={} epoch={} error={}", name_, supervisor_.epoch(),
                 core::quoted(error.what(), 500));
    return;
  }
  fail_request(refused.request(), error, "refused");
  pump();
}

void ServedModel::on_stats(const wire::Stats& stats) {
  metrics_.steps(stats.steps());
  metrics_.preemptions(stats.preemptions());
  metrics_.engine(stats.running(), stats.waiting(), stats.kv_blocks_used(), stats.kv_blocks());
}

// ---- Ends of requests
// ----------------------------------------------------------------------------------------

void ServedModel::forget(std::map<std::uint64_t, Item>::iterator place, const char* outcome) {
  Request& request = *place->second;
  released_ += std::exchange(request.places, 0);
  request.open = 0;
  metrics_.request_ended(outcome);
  spdlog::debug("request ended model={} request_id={} id={} outcome={}", name_,
                core::quoted(request.client_id()), request.id, outcome);
  if (std::any_of(request.sequences.begin(), request.sequences.end(),
                  [](const auto& sequence) { return sequence.ended_early; })) {
    // After a replay the host may still be at work on that sequence.
    wire::ToHost message;
    message.mutable_cancel()->set_model(name_);
    message.mutable_cancel()->set_request(request.id);
    supervisor_.send(message);
    ask_stats();
  }
  in_host_.erase(place);
}

void ServedModel::fail_request(std::uint64_t id, const Error& error, const char* outcome) {
  const auto place = in_host_.find(id);
  if (place == in_host_.end()) return;
  const Item item = place->second;
  spdlog::warn("request {} model={} request_id={} error={}", outcome, name_, core::quoted(item->client_id()),
               core::quoted(error.what(), 500));
  forget(place, outcome);
  publish_counts();
  item->fail(error);
}

void ServedModel::fail_all(const Error& error) {
  std::vector<Item> items;
  {
    const std::lock_guard lock(mutex_);
    items = shared_.queue.clear();
  }
  for (auto& [id, item] : in_host_) {
    released_ += item->places;
    items.push_back(std::move(item));
  }
  in_host_.clear();
  publish_counts();
  if (!items.empty()) spdlog::warn("requests failed model={} requests={}", name_, items.size());
  for (const Item& item : items) {
    metrics_.request_ended("failed");
    item->fail(error);
  }
}

void ServedModel::publish_counts() {
  bool idle = false;
  {
    const std::lock_guard lock(mutex_);
    shared_.queue.release(std::exchange(released_, 0));
    shared_.in_host = static_cast<std::int32_t>(in_host_.size());
    metrics_.queued(static_cast<int>(shared_.queue.size()));
    idle = shared_.in_host == 0 && shared_.queue.size() == 0;
  }
  if (idle) surroundings_.changed();
}

}  // namespace peregrine::serving
