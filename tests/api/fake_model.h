// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/exchange.h"
#include "core/error.h"
#include "serving/model.h"
#include "support/fake_encoder.h"

namespace peregrine::testing {

/// What a FakeModel answers to one request.
struct Script {
  /// Tokens of each sequence; a sequence beyond the last gets the last one's.
  std::vector<std::vector<std::int32_t>> tokens{};
  generation::FinishReason finish = generation::FinishReason::kLength;
  std::string error{};                   ///< Where finish is kError.
  std::optional<float> log_prob{};       ///< Of all tokens; else one that tells the position.
  std::size_t chunk = 1;                 ///< Tokens of each sequence that one take() gives.
  bool finish_apart = false;             ///< The end comes without tokens.
  std::optional<core::Error> failure{};  ///< Thrown by the take() after the last token, instead of an end.
  std::vector<float> scores{};           ///< Of the sequences, with their ends.
  std::vector<float> log_probs{};        ///< Of all tokens of each sequence, in place of log_prob.
};

/// A model without an engine: examples/shakespeare's files, and answers as a script says. What it was asked
/// and how many of its generations live is public, for tests to look at.
class FakeModel : public serving::Model {
 public:
  explicit FakeModel(std::string name = "shakespeare");
  FakeModel(std::string name, const std::filesystem::path& directory);

  /// Makes the script of a request; the default: as many tokens of "To be, or not to be" in turn as
  /// max_new_tokens says.
  std::function<Script(const serving::GenerationRequest&)> script;
  std::vector<serving::GenerationRequest> requests;
  std::optional<core::Error> refusal;      ///< Thrown by generate().
  std::optional<std::size_t> refuse_from;  ///< ... but only from this request on.
  serving::ModelStatus state;
  serving::Limits bounds;
  FakeEncoder encoder;
  int alive = 0;      ///< Generations that exist.
  int cancelled = 0;  ///< Generations that were destroyed before their end.

  configuration::ModelOptions model_options;

  const std::string& name() const override { return name_; }
  const configuration::ModelOptions& options() const override { return model_options; }
  const model_info::ModelDirectory& directory() const override { return directory_; }
  serving::ModelStatus status() const override { return state; }
  serving::Limits limits() const override;
  std::unique_ptr<serving::Generation> generate(serving::GenerationRequest request,
                                                std::function<void()> wake) override;
  std::unique_ptr<serving::Encoding> encode(serving::EncodeRequest request,
                                            std::function<void()> wake) override;
  void set_vocabulary(std::shared_ptr<const std::vector<std::string>> bytes) override { vocabulary = bytes; }

  std::shared_ptr<const std::vector<std::string>> vocabulary;

 private:
  std::string name_;
  model_info::ModelDirectory directory_;
  std::vector<std::int32_t> words_;
};

/// An answer as a client sees it.
struct Answer {
  api::Head head;
  std::string body;
  std::vector<std::string> parts;  ///< As they came.
  std::size_t waits = 0;

  int status() const { return head.status; }
  std::string header(std::string_view name) const;
  boost::json::value json() const;
  /// The lines that are not empty.
  std::vector<boost::json::value> lines() const;
};

/// Asks until the answer is whole. Fails the test where the exchange waits and nothing wakes it.
Answer ask(api::Service& service, api::HttpRequest request);
Answer post(api::Service& service, std::string path, std::string body,
            std::vector<std::pair<std::string, std::string>> headers = {});
Answer get(api::Service& service, std::string path);

/// The tokens of a text under the example's tokenizer.
std::vector<std::int32_t> tokens_of(std::string_view text);
std::filesystem::path example_directory();

}  // namespace peregrine::testing
