// SPDX-License-Identifier: Apache-2.0
#include "fake_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <utility>

#include "text/tokenizer.h"

namespace peregrine::testing {
namespace {

class FakeGeneration : public serving::Generation {
 public:
  FakeGeneration(FakeModel& model, const serving::GenerationRequest& request, Script script,
                 std::function<void()> wake)
      : model_(model),
        script_(std::move(script)),
        prompt_(scored_prompt(request)),
        sequences_(request.parameters.reported_sequences()),
        wake_(std::move(wake)) {
    ++model_.alive;
    wake_();
  }

  ~FakeGeneration() override {
    --model_.alive;
    if (!ended_) ++model_.cancelled;
  }

  bool take(std::vector<serving::SequenceUpdate>& out) override {
    bool all_given = true;
    for (std::int32_t i = 0; i < sequences_; ++i) {
      const auto& ids =
          script_.tokens[std::min<std::size_t>(static_cast<std::size_t>(i), script_.tokens.size() - 1)];
      if (given_ < ids.size() || !ended_) out.push_back(update(i, ids));
      if (given_ + script_.chunk < ids.size()) all_given = false;
    }
    if (given_ > 0 && script_.failure && all_given_) throw core::Error(*script_.failure);
    given_ += script_.chunk;
    const bool over = script_.finish_apart || script_.failure ? all_given_ : all_given;
    all_given_ = all_given;
    ended_ = over && !script_.failure;
    if (!ended_) wake_();
    return ended_;
  }

  serving::Timing timing() const override { return {.queued_seconds = 0.25, .first_token_seconds = 0.5}; }

 private:
  /// What comes with the first take(): position p of the prompt has -p / 8, and its alternatives begin with
  /// the token itself.
  static std::vector<generation::SampledToken> scored_prompt(const serving::GenerationRequest& request) {
    std::vector<generation::SampledToken> out;
    const auto top = request.parameters.prompt_logprobs;
    for (std::size_t p = 1; top && p < request.prompt_ids.size(); ++p) {
      generation::SampledToken token;
      token.token = {request.prompt_ids[p], -static_cast<float>(p) / 8.0f};
      for (std::int32_t k = 0; k < *top; ++k) {
        token.top.push_back({token.token.id + k, token.token.log_prob - static_cast<float>(k)});
      }
      out.push_back(std::move(token));
    }
    return out;
  }

  serving::SequenceUpdate update(std::int32_t index, const std::vector<std::int32_t>& ids) {
    serving::SequenceUpdate update;
    update.sequence = index;
    if (index == 0) update.prompt = std::exchange(prompt_, {});
    for (std::size_t k = given_; k < std::min(given_ + script_.chunk, ids.size()); ++k) {
      // Alternatives are made up: the token itself and its neighbour.
      generation::SampledToken token;
      token.token = {ids[k], log_prob(static_cast<std::size_t>(index), k)};
      token.top = {{ids[k], -0.5f}, {ids[k] + 1, -1.5f}};
      update.tokens.push_back(std::move(token));
    }
    const bool last = given_ + script_.chunk >= ids.size();
    const bool before = given_ >= ids.size();
    if (!script_.failure && (script_.finish_apart ? before : last)) {
      update.finish = script_.finish;
      update.error = script_.error;
      const auto place = static_cast<std::size_t>(index);
      if (place < script_.scores.size()) update.score = script_.scores[place];
    }
    return update;
  }

  float log_prob(std::size_t sequence, std::size_t position) const {
    if (sequence < script_.log_probs.size()) return script_.log_probs[sequence];
    return script_.log_prob.value_or(-0.5f - static_cast<float>(position));
  }

  FakeModel& model_;
  Script script_;
  std::vector<generation::SampledToken> prompt_;
  std::int32_t sequences_;
  std::function<void()> wake_;
  std::size_t given_ = 0;
  bool all_given_ = false;
  bool ended_ = false;
};

}  // namespace

std::filesystem::path example_directory() {
  return std::filesystem::path(PEREGRINE_SOURCE_DIR) / "examples" / "shakespeare";
}

std::vector<std::int32_t> tokens_of(std::string_view text) {
  static const auto kTokenizer = text::Tokenizer::load(example_directory());
  return kTokenizer->encode(text, {.add_special_tokens = false});
}

FakeModel::FakeModel(std::string name) : FakeModel(std::move(name), example_directory()) {}

FakeModel::FakeModel(std::string name, const std::filesystem::path& directory)
    : name_(std::move(name)), directory_(model_info::ModelDirectory::open(directory)) {
  words_ = tokens_of("To be, or not to be: that is the question.");
  state.state = serving::ModelState::kReady;
  state.job_queue_size = 10;
  bounds = {.vocab_size = 2048, .max_model_length = 1024, .max_sequences = 32};
  script = [this](const serving::GenerationRequest& request) {
    Script made;
    made.tokens.resize(1);
    for (std::int32_t i = 0; i < request.parameters.max_new_tokens; ++i) {
      made.tokens[0].push_back(words_[static_cast<std::size_t>(i) % words_.size()]);
    }
    return made;
  };
}

serving::Limits FakeModel::limits() const {
  if (state.state == serving::ModelState::kLoading) {
    core::fail(core::ErrorKind::kOverloaded, "Model is not ready: {}", name_);
  }
  return bounds;
}

std::unique_ptr<serving::Generation> FakeModel::generate(serving::GenerationRequest request,
                                                         std::function<void()> wake) {
  if (refusal && requests.size() >= refuse_from.value_or(0)) throw core::Error(*refusal);
  requests.push_back(std::move(request));
  return std::make_unique<FakeGeneration>(*this, requests.back(), script(requests.back()), std::move(wake));
}

std::unique_ptr<serving::Encoding> FakeModel::encode(serving::EncodeRequest request,
                                                     std::function<void()> wake) {
  return encoder.encode(std::move(request), std::move(wake));
}

std::string Answer::header(std::string_view name) const {
  for (const auto& [key, value] : head.headers) {
    if (key == name) return value;
  }
  return {};
}

boost::json::value Answer::json() const {
  boost::json::error_code error;
  auto parsed = boost::json::parse(body, error);
  EXPECT_FALSE(error) << body;
  return parsed;
}

std::vector<boost::json::value> Answer::lines() const {
  std::vector<boost::json::value> values;
  std::string_view rest = body;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    if (end > 0) {
      boost::json::error_code error;
      values.push_back(boost::json::parse(rest.substr(0, end), error));
      EXPECT_FALSE(error) << rest.substr(0, end);
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return values;
}

Answer ask(api::Service& service, api::HttpRequest request) {
  auto wakes = std::make_shared<std::size_t>(0);
  const auto exchange = service.handle(std::move(request), [wakes] { ++*wakes; });
  Answer answer;
  while (true) {
    const std::size_t woken = *wakes;
    std::string part;
    const auto state = exchange->next(answer.head, part);
    if (state == api::Exchange::State::kWaiting) {
      EXPECT_EQ(part, "") << "text while waiting";
      ++answer.waits;
      if (*wakes == woken) {
        ADD_FAILURE() << "nothing wakes the exchange";
        return answer;
      }
      continue;
    }
    answer.body += part;
    answer.parts.push_back(std::move(part));
    if (state == api::Exchange::State::kDone) return answer;
  }
}

Answer post(api::Service& service, std::string path, std::string body,
            std::vector<std::pair<std::string, std::string>> headers) {
  api::HttpRequest request;
  request.method = "POST";
  const std::size_t query = path.find('?');
  request.path = path.substr(0, query);
  if (query != std::string::npos) request.query = path.substr(query + 1);
  request.headers = std::move(headers);
  request.body = std::move(body);
  return ask(service, std::move(request));
}

Answer get(api::Service& service, std::string path) {
  api::HttpRequest request;
  request.method = "GET";
  request.path = std::move(path);
  return ask(service, std::move(request));
}

}  // namespace peregrine::testing
