// SPDX-License-Identifier: Apache-2.0
#include "host/event_writer.h"

#include "channel/convert.h"

namespace peregrine::host {

void to_message(const engine::EngineStats& stats, channel::wire::Stats& message) {
  message.set_steps(stats.steps);
  message.set_prefill_tokens(stats.prefill_tokens);
  message.set_decode_tokens(stats.decode_tokens);
  message.set_preemptions(stats.preemptions);
  message.set_running(stats.running);
  message.set_waiting(stats.waiting);
  message.set_kv_blocks(stats.kv_blocks);
  message.set_kv_blocks_used(stats.kv_blocks_used);
}

EventWriter::EventWriter(channel::HostLink& link, const std::string& model, const engine::Engine& engine)
    : link_(link), model_(model), engine_(engine) {}

void EventWriter::on_step(std::span<const engine::SequenceEvent> events) {
  channel::wire::Events& out = *message_.mutable_events();
  out.clear_sequences();
  out.set_model(model_);
  for (const engine::SequenceEvent& event : events) {
    channel::wire::SequenceEvent& sequence = *out.add_sequences();
    sequence.set_request(event.request);
    sequence.set_sequence(event.sequence);
    for (const auto& token : event.tokens) channel::to_message(token, *sequence.add_tokens());
    if (event.finish) sequence.set_finish(channel::to_message(*event.finish));
    if (!event.error.empty()) sequence.set_error(std::string(event.error));
    if (event.score) sequence.set_score(*event.score);
    for (const auto& token : event.prompt) channel::to_message(token, *sequence.add_prompt());
    if (!event.prompt.empty()) sequence.set_prompt_start(event.prompt_start);
  }
  to_message(engine_.stats(), *out.mutable_stats());
  // Where the server is gone the receiving thread ends the process.
  link_.send(message_);
}

}  // namespace peregrine::host
