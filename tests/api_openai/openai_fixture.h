// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/dialects.h"
#include "api/generation_exchange.h"
#include "support/fake_model.h"
#include "support/test_data.h"

namespace peregrine::api {

/// The answer to one request.
struct Answer {
  Head head;
  std::string body;

  boost::json::value json() const;
  /// The events of a stream, without what is around them; of the end mark, "[DONE]".
  std::vector<std::string> events;
  /// The events that are JSON.
  std::vector<boost::json::object> chunks() const;
};

/// The example model's tokenizer and template, over a model that answers as the test says: by default with
/// the tokens of kText.
class OpenAiTest : public ::testing::Test {
 protected:
  static constexpr std::string_view kText = "O Romeo, Romeo! wherefore art thou Romeo? — café 🎭.";

  void SetUp() override;

  enum class Route : std::uint8_t { kCompletions, kChat };

  GenerationPlan read(Route route, const boost::json::object& body, bool server_sent_events = true) const;
  GenerationPlan completion(std::string_view body) const;
  GenerationPlan chat(std::string_view body) const;

  /// Reads and runs a request to its end.
  Answer ask(Route route, std::string_view body, bool server_sent_events = true) const;

  /// The field that a request is refused for; "(none)" where the error names none, "" where it is taken.
  std::string refused_field(Route route, std::string_view body) const;
  /// The message of the refusal; empty where the request is taken.
  std::string refusal(Route route, std::string_view body) const;

  /// Lets every sequence be these tokens.
  void answer_with(std::vector<std::int32_t> tokens,
                   generation::FinishReason finish = generation::FinishReason::kEosToken);
  std::vector<std::int32_t> ids(std::string_view text) const;

  std::unique_ptr<testing::FakeModel> model_;
  ServedModel served_;
};

}  // namespace peregrine::api
