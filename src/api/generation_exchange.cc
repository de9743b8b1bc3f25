// SPDX-License-Identifier: Apache-2.0
#include "api/generation_exchange.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <iterator>
#include <limits>
#include <utility>

#include "core/log.h"

namespace peregrine::api {
namespace {

using core::ErrorKind;
using generation::FinishReason;

/// The log-probability per token by which sequences are compared; one without tokens is no answer.
double mean_log_prob(const SequenceAnswer& answer) {
  const double mean = answer.log_prob_sum / static_cast<double>(answer.token_count);
  return answer.token_count == 0 || std::isnan(mean) ? -std::numeric_limits<double>::infinity() : mean;
}

class GenerationExchange : public Exchange {
 public:
  GenerationExchange(const ServedModel& model, GenerationPlan plan, std::shared_ptr<RequestLog> log)
      : tokenizer_(model.tokenizer), plan_(std::move(plan)), log_(std::move(log)) {
    // Hypotheses must end where they are found; elsewhere it is enough to find them here.
    if (plan_.parameters.num_beams > 1) plan_.parameters.stop_strings = plan_.text.stop;
    const auto stop = std::make_shared<const StopStrings>(plan_.text.stop);
    for (std::size_t i = plan_.prompts.size() * sequences_per_prompt(); i > 0; --i) {
      assemblers_.emplace_back(tokenizer_.get(), plan_.text, stop);
    }
    answers_.resize(assemblers_.size());
  }

  void submit(serving::Model& model, const std::string& request_id, const std::function<void()>& wake) {
    for (auto& ids : plan_.prompts) {
      log_->prompt_tokens += ids.size();
      serving::GenerationRequest request{request_id, std::move(ids), plan_.parameters};
      if (plan_.decoder_start) {
        request.encoder_ids = std::exchange(request.prompt_ids, {*plan_.decoder_start});
      }
      generations_.push_back(model.generate(std::move(request), wake));
    }
  }

  State next(Head& head, std::string& body) override {
    if (done_) return State::kDone;
    const std::size_t sent = body.size();
    try {
      return advance(head, body);
    } catch (const core::Error& error) {
      fail(error, sent, head, body);
    } catch (const std::exception& error) {
      fail(core::Error(ErrorKind::kInternal, error.what()), sent, head, body);
    }
    return State::kDone;
  }

 private:
  /// That the model gives; of these n are returned.
  std::size_t sequences_per_prompt() const {
    return static_cast<std::size_t>(std::max(plan_.parameters.reported_sequences(), 1));
  }

  State advance(Head& head, std::string& body) {
    const std::size_t sent = body.size();
    for (std::size_t i = 0; i < generations_.size(); ++i) take(i, body);
    done_ = std::ranges::all_of(generations_, [](const auto& generation) { return !generation; });
    if (!done_ && body.size() == sent) return State::kWaiting;
    if (!plan_.streaming) {
      choose();
      head = plan_.writer->head(false);
      plan_.writer->write_whole(answers_, body);
      return State::kDone;
    }
    if (done_) {
      begin(body);
      plan_.writer->end_stream(answers_, body);
    }
    // The head goes with the first bytes, so that an error before them has a status of its own.
    if (!std::exchange(head_given_, true)) head = plan_.writer->head(true);
    return done_ ? State::kDone : State::kMore;
  }

  /// Takes what came for one prompt.
  void take(std::size_t index, std::string& body) {
    auto& generation = generations_[index];
    if (!generation) return;
    updates_.clear();
    const bool ended = generation->take(updates_);
    note_times(*generation);
    const std::size_t first = index * sequences_per_prompt();
    for (serving::SequenceUpdate& update : updates_) {
      if (!update.prompt.empty()) plan_.writer->add_prompt(index, std::move(update.prompt));
    }
    for (serving::SequenceUpdate& update : updates_) {
      if (update.sequence < 0 || static_cast<std::size_t>(update.sequence) >= sequences_per_prompt()) {
        core::fail(ErrorKind::kInternal, "the engine sent tokens of sequence {}; the request has {}",
                   update.sequence, sequences_per_prompt());
      }
      apply(first + static_cast<std::size_t>(update.sequence), update, body);
    }
    const auto begin = answers_.begin() + static_cast<std::ptrdiff_t>(first);
    const bool all_ended =
        std::all_of(begin, begin + static_cast<std::ptrdiff_t>(sequences_per_prompt()),
                    [](const SequenceAnswer& answer) { return answer.finish.has_value(); });
    if (ended && !all_ended) {
      core::fail(ErrorKind::kInternal, "the engine ended a request before all of its sequences");
    }
    // Destroying it tells the engine to stop, where it does not know yet that a stop string was met.
    if (all_ended) generation.reset();
  }

  void apply(std::size_t index, serving::SequenceUpdate& update, std::string& body) {
    SequenceAnswer& answer = answers_[index];
    if (answer.finish) return;  // what the engine computed behind a stop string
    TextAssembler& assembler = assemblers_[index];
    tokens_.clear();
    for (generation::SampledToken& token : update.tokens) assembler.push(std::move(token), tokens_);
    if (assembler.stopped()) {
      answer.finish = FinishReason::kStopSequence;
    } else if (update.finish) {
      if (*update.finish == FinishReason::kError) throw core::Error(ErrorKind::kInternal, update.error);
      answer.finish = assembler.finish(*update.finish, tokens_);
    }
    if (update.score) answer.score = update.score;
    for (const TextToken& token : tokens_) {
      answer.text += token.text;
      if (token.token.token.id == kNoToken) continue;
      answer.log_prob_sum += token.token.token.log_prob;
      ++answer.token_count;
      ++log_->generated_tokens;
    }
    if (plan_.streaming) {
      write_update(index, body);
    } else if (plan_.keep_tokens) {
      std::ranges::move(tokens_, std::back_inserter(answer.tokens));
    }
  }

  /// Keeps the n best sequences of each prompt, best first.
  void choose() {
    const std::size_t all = sequences_per_prompt();
    const std::size_t n = std::min(all, static_cast<std::size_t>(std::max(plan_.parameters.n, 1)));
    // Hypotheses of a beam search come in the order of their scores.
    if (plan_.parameters.num_beams > 1 || (n == all && !plan_.best_first)) return;
    std::vector<SequenceAnswer> chosen;
    for (std::size_t first = 0; first < answers_.size(); first += all) {
      const auto group = std::span(answers_).subspan(first, all);
      std::ranges::stable_sort(group, std::greater<>(), mean_log_prob);
      std::ranges::move(group.first(n), std::back_inserter(chosen));
    }
    answers_ = std::move(chosen);
  }

  void write_update(std::size_t index, std::string& body) {
    const SequenceAnswer& answer = answers_[index];
    if (tokens_.empty() && !answer.finish) return;
    begin(body);
    if (tokens_.empty()) {
      plan_.writer->write_finish(index, answer, body);
    } else {
      plan_.writer->write_tokens(index, answer, tokens_, body);
    }
  }

  void begin(std::string& body) {
    if (!std::exchange(begun_, true)) plan_.writer->begin_stream(body);
  }

  void note_times(const serving::Generation& generation) {
    const serving::Timing timing = generation.timing();
    log_->queued_seconds = std::max(log_->queued_seconds, timing.queued_seconds);
    if (timing.first_token_seconds == 0) return;
    const bool first = log_->first_token_seconds == 0;
    log_->first_token_seconds =
        first ? timing.first_token_seconds : std::min(log_->first_token_seconds, timing.first_token_seconds);
  }

  /// `sent`: bytes of `body` that were there before this call.
  void fail(const core::Error& error, std::size_t sent, Head& head, std::string& body) {
    spdlog::warn("request failed request_id={}{}: {}", log_->request_id,
                 head_given_ ? " in the middle of a stream" : "", error.what());
    done_ = true;
    generations_.clear();
    if (head_given_) {
      plan_.writer->write_stream_error(error, body);
    } else {
      body.resize(sent);
      write_error(error, plan_.writer->error_style(), head, body);
    }
  }

  std::shared_ptr<const text::Tokenizer> tokenizer_;  // the assemblers refer to it
  GenerationPlan plan_;
  std::shared_ptr<RequestLog> log_;
  std::vector<TextAssembler> assemblers_;
  std::vector<SequenceAnswer> answers_;  ///< finish is set where a sequence has ended for the client.
  std::vector<std::unique_ptr<serving::Generation>> generations_;  ///< By prompt; null once it has ended.
  bool begun_ = false;                                             ///< Streaming: begin_stream was called.
  bool head_given_ = false;  ///< Streaming: the status cannot change any more.
  bool done_ = false;
  // Kept for their memory.
  std::vector<serving::SequenceUpdate> updates_;
  std::vector<TextToken> tokens_;
};

}  // namespace

std::unique_ptr<Exchange> start_generation(const ServedModel& model, GenerationPlan plan,
                                           const std::string& request_id, std::shared_ptr<RequestLog> log,
                                           std::function<void()> wake) {
  auto exchange = std::make_unique<GenerationExchange>(model, std::move(plan), std::move(log));
  // Where one prompt is refused, the exchange is destroyed and with it those before.
  exchange->submit(*model.model, request_id, wake);
  return exchange;
}

}  // namespace peregrine::api
