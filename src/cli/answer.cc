// SPDX-License-Identifier: Apache-2.0
#include "cli/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <utility>

#include "cli/json_output.h"

namespace peregrine::cli {
namespace {

void write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string text_json(const Sequence& sequence, const text::Tokenizer* tokenizer) {
  return tokenizer == nullptr ? std::string("null") : json_string(sequence.text);
}

/// Alternatives as [{"id","logprob"}].
std::string top_json(std::span<const generation::TokenLogProb> top) {
  std::string out = "[";
  for (const generation::TokenLogProb& token : top) {
    out += fmt::format("{}{{\"id\":{},\"logprob\":{}}}", out.size() > 1 ? "," : "", token.id,
                       json_number(token.log_prob));
  }
  return out + "]";
}

std::string top_tokens_json(const Sequence& sequence) {
  std::string out = "[";
  for (const auto& top : sequence.top) out += (out.size() > 1 ? "," : "") + top_json(top);
  return out + "]";
}

std::string prompt_json(std::span<const generation::SampledToken> prompt) {
  std::string out = "[null";
  for (const generation::SampledToken& token : prompt) {
    out += fmt::format(",{{\"id\":{},\"logprob\":{},\"top\":{}}}", token.token.id,
                       json_number(token.token.log_prob), top_json(token.top));
  }
  return out + "]";
}

}  // namespace

float Sequence::score() const {
  if (hypothesis_score) return *hypothesis_score;
  double sum = 0;
  for (const float value : logprobs) sum += value;
  return static_cast<float>(sum);
}

double Sequence::mean_logprob() const {
  double sum = 0;
  for (const float value : logprobs) sum += value;
  if (logprobs.empty() || std::isnan(sum)) return -std::numeric_limits<double>::infinity();
  return sum / static_cast<double>(logprobs.size());
}

Collector::Collector(const generation::Parameters& parameters, const text::Tokenizer* tokenizer,
                     const std::vector<std::string>& stop, bool streaming)
    : parameters_(parameters),
      tokenizer_(tokenizer),
      streaming_(streaming),
      sequences_(static_cast<std::size_t>(parameters.reported_sequences())) {
  const auto shared = std::make_shared<const api::StopStrings>(stop);
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    assemblers_.emplace_back(tokenizer, api::TextOptions{}, shared);
  }
}

void Collector::on_step(std::span<const engine::SequenceEvent> events) {
  for (const engine::SequenceEvent& event : events) add(event);
}

void Collector::add(const engine::SequenceEvent& event) {
  // A request that was preempted tells its prompt again.
  for (std::size_t i = 0; i < event.prompt.size(); ++i) {
    const std::size_t place = static_cast<std::size_t>(event.prompt_start) + i;
    if (place == prompt_.size() + 1) prompt_.push_back(event.prompt[i]);
  }
  Sequence& sequence = sequences_.at(static_cast<std::size_t>(event.sequence));
  api::TextAssembler& assembler = assemblers_[static_cast<std::size_t>(event.sequence)];
  if (sequence.finish) return;  // what was computed behind a stop string
  tokens_.clear();
  for (const generation::SampledToken& token : event.tokens) assembler.push(token, tokens_);
  if (assembler.stopped()) {
    sequence.finish = generation::FinishReason::kStopSequence;
  } else if (event.finish) {
    sequence.finish = assembler.finish(*event.finish, tokens_);
    sequence.error = event.error;
  }
  sequence.hypothesis_score = event.score;
  for (api::TextToken& token : tokens_) {
    sequence.text += token.text;
    if (streaming_ && event.sequence == 0) write(token.text);
    if (token.token.token.id == api::kNoToken) continue;
    sequence.ids.push_back(token.token.token.id);
    sequence.logprobs.push_back(token.token.token.log_prob);
    sequence.top.push_back(std::move(token.token.top));
  }
  // Where nothing was cut, the text is what the whole of the ids stands for.
  if (sequence.finish && !assembler.stopped() && tokenizer_ != nullptr) {
    sequence.text = tokenizer_->decode(sequence.ids, true);
  }
}

bool Collector::all_ended() const {
  return std::ranges::all_of(sequences_,
                             [](const Sequence& sequence) { return sequence.finish.has_value(); });
}

void Collector::finish() const {
  if (streaming_) write("\n");
}

std::vector<Sequence> Collector::best() const {
  std::vector<Sequence> out = sequences_;
  // Hypotheses of a beam search come in the order of their scores.
  const auto n = static_cast<std::size_t>(parameters_.n);
  if (parameters_.num_beams > 1 || out.size() <= n) return out;
  std::ranges::stable_sort(out, std::greater<>(), &Sequence::mean_logprob);
  out.resize(n);
  return out;
}

std::string answer_json(const std::vector<Sequence>& sequences, const text::Tokenizer* tokenizer,
                        const generation::Parameters& parameters,
                        std::span<const generation::SampledToken> prompt) {
  const Sequence& first = sequences.front();
  std::string out = fmt::format("{{\"ids\":{},\"text\":{},\"finish_reason\":\"{}\",\"logprobs\":{}",
                                json_array(first.ids), text_json(first, tokenizer),
                                generation::to_string(*first.finish), json_array(first.logprobs));
  if (parameters.top_n_tokens > 0) out += ",\"top_tokens\":" + top_tokens_json(first);
  if (parameters.prompt_logprobs) out += ",\"prompt_logprobs\":" + prompt_json(prompt);
  out += ",\"sequences\":[";
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = sequences[i];
    out += fmt::format("{}{{\"ids\":{},\"text\":{},\"score\":{},\"finish_reason\":\"{}\",\"logprobs\":{}}}",
                       i > 0 ? "," : "", json_array(sequence.ids), text_json(sequence, tokenizer),
                       json_number(sequence.score()), generation::to_string(*sequence.finish),
                       json_array(sequence.logprobs));
  }
  return out + "]}\n";
}

std::string answer_text(const std::vector<Sequence>& sequences, const text::Tokenizer* tokenizer) {
  std::string out;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (sequences.size() > 1) out += fmt::format("--- {} of {}\n", i + 1, sequences.size());
    out += tokenizer == nullptr ? json_array(sequences[i].ids) : sequences[i].text;
    out += '\n';
  }
  return out;
}

}  // namespace peregrine::cli
