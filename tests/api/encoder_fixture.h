// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/service.h"
#include "fake_model.h"
#include "support/test_data.h"
#include "support/tiny_bert.h"

namespace peregrine::api {

/// A service with one encoder that computes nothing, in a directory that a test may change before start().
class EncoderTest : public ::testing::Test {
 protected:
  static constexpr const char* kConfig =
      R"({"architectures":["BertForSequenceClassification"],"model_type":"bert","vocab_size":29,)"
      R"("type_vocab_size":2,"id2label":{"0":"NEGATIVE","1":"NEUTRAL","2":"POSITIVE"}})";

  EncoderTest() {
    write("config.json", kConfig);
    write("tokenizer.json", testing::tiny_bert_tokenizer());
  }

  void write(const std::string& name, std::string_view text) {
    testing::write_file(directory_.path() / name, text);
  }

  /// `labels` 0: an embedder.
  void start(int labels, configuration::ModelOptions options = {}) {
    model_ = std::make_unique<testing::FakeModel>("m", directory_.path());
    model_->bounds = {
        .vocab_size = 29, .max_model_length = 16, .max_sequences = 4, .embedding_size = 4, .labels = labels};
    model_->model_options = std::move(options);
    model_->encoder.vector = [labels](const serving::EncodeRequest& request) {
      if (request.kind == generation::EncodeKind::kEmbed) return std::vector<float>{3, 0, -4, 0.5f};
      std::vector<float> scores(static_cast<std::size_t>(labels), 0.0f);
      scores[request.ids[1] % static_cast<std::size_t>(labels)] = 2;
      if (labels == 1) scores[0] = static_cast<float>(request.ids.size()) - 6;
      return scores;
    };
    service_ = create_service({model_.get()}, metrics_);
  }

  testing::Answer ask(const std::string& path, const std::string& body) {
    return testing::post(*service_, path, body);
  }
  /// The body of an answer that must be 200.
  std::string good(const std::string& path, const std::string& body) {
    const testing::Answer answer = ask(path, body);
    EXPECT_EQ(answer.status(), 200) << answer.body;
    EXPECT_EQ(answer.head.content_type, "application/json");
    return answer.body;
  }
  /// The body of an answer that must be 400.
  std::string bad(const std::string& path, const std::string& body) {
    const testing::Answer answer = ask(path, body);
    EXPECT_EQ(answer.status(), 400) << answer.body;
    return answer.body;
  }

  const std::vector<serving::EncodeRequest>& requests() const { return model_->encoder.requests; }

  /// Ids of words, with [CLS] and [SEP] as they stand.
  static std::vector<std::int32_t> ids(const std::vector<std::string_view>& words) {
    std::vector<std::int32_t> out;
    for (const std::string_view word : words) out.push_back(testing::tiny_id(word));
    return out;
  }

  testing::TemporaryDirectory directory_;
  serving::Metrics metrics_;
  std::unique_ptr<testing::FakeModel> model_;
  std::unique_ptr<Service> service_;
};

}  // namespace peregrine::api
