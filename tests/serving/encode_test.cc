// SPDX-License-Identifier: Apache-2.0
// Texts that are encoded: from the server to a host and back, with all that can happen on the way.
#include <random>
#include <thread>

#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int32_t kSize = 12;
constexpr std::int32_t kLabels = 3;

EncodeRequest text(int index, generation::EncodeKind kind = generation::EncodeKind::kEmbed) {
  EncodeRequest request;
  request.request_id = "test-" + std::to_string(index);
  request.kind = kind;
  for (int i = 0; i < 3 + index % 17; ++i) request.ids.push_back((index * 31 + i * 7) % 997);
  request.normalize = index % 2 == 0;
  request.pooling = static_cast<generation::Pooling>(index % 3);
  return request;
}

/// What the echo host makes of it.
std::vector<float> expected_vector(const EncodeRequest& request) {
  const bool classify = request.kind == generation::EncodeKind::kClassify;
  std::vector<float> values(classify ? kLabels : kSize);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t at = i % request.ids.size();
    values[i] = static_cast<float>(request.ids[at]) + (classify ? 0.5f : 0.0f) +
                (request.normalize ? 0.125f : 0.0f) + 0.25f * static_cast<float>(request.pooling);
    if (!request.token_types.empty()) values[i] += static_cast<float>(request.token_types[at]);
  }
  return values;
}

/// A text and a client that takes its vector as soon as it is woken.
class TextClient {
 public:
  TextClient(Model& model, const EncodeRequest& request) {
    encoding_ = model.encode(request, [bell = bell_] {
      const std::lock_guard lock(bell->mutex);
      ++bell->count;
      bell->rung.notify_all();
    });
  }

  /// Waits for the vector; throws what take() throws.
  std::vector<float> finish() {
    std::vector<float> out;
    while (!encoding_->take(out)) {
      std::unique_lock lock(bell_->mutex);
      if (!bell_->rung.wait_for(lock, kPatience, [this] { return bell_->count > 0; })) {
        ADD_FAILURE() << "nothing came";
        return {};
      }
      bell_->count = 0;
    }
    return out;
  }
  core::Error wait_for_error() {
    try {
      finish();
    } catch (const core::Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error came";
    return {core::ErrorKind::kInternal, ""};
  }
  void cancel() { encoding_.reset(); }
  Encoding& encoding() { return *encoding_; }

 private:
  struct Bell {
    std::mutex mutex;
    std::condition_variable rung;
    int count = 0;
  };
  std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  std::unique_ptr<Encoding> encoding_;
};

class EncodeTest : public ServingTest {
 protected:
  static HostCommand encoder(std::vector<std::string> flags = {}) {
    flags.insert(flags.end(),
                 {"--embedding-size", std::to_string(kSize), "--labels", std::to_string(kLabels)});
    return echo(std::move(flags));
  }
  HostCommand bad_encoder(const std::string& plan) {
    return bad(plan, {"--embedding-size", "4", "--labels", "4"});
  }
  std::string refusal(const EncodeRequest& request, core::ErrorKind kind) {
    try {
      model().encode(request, [] {});
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "not refused";
    return "";
  }
};

TEST_F(EncodeTest, VectorsComeInPiecesAndWhole) {
  serve(encoder());
  EXPECT_EQ(model().limits().embedding_size, kSize);
  EXPECT_EQ(model().limits().labels, kLabels);
  EXPECT_FALSE(model().limits().generates());
  std::vector<std::unique_ptr<TextClient>> clients;
  for (int i = 0; i < 60; ++i) {
    const auto kind = i % 5 == 0 ? generation::EncodeKind::kClassify : generation::EncodeKind::kEmbed;
    clients.push_back(std::make_unique<TextClient>(model(), text(i, kind)));
  }
  for (int i = 0; i < 60; ++i) {
    const auto kind = i % 5 == 0 ? generation::EncodeKind::kClassify : generation::EncodeKind::kEmbed;
    EXPECT_EQ(clients[static_cast<std::size_t>(i)]->finish(), expected_vector(text(i, kind))) << i;
  }
  EXPECT_GT(clients[0]->encoding().timing().first_token_seconds, 0);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"encoded\"}"), 60);
  EXPECT_TRUE(eventually([&] { return metric("peregrine_engine_steps_total{model=\"m\"}") > 0; }));
  EXPECT_EQ(model().status().in_host, 0);
}

TEST_F(EncodeTest, TokenTypesGoWithTheText) {
  serve(encoder());
  EncodeRequest pair = text(4);
  pair.token_types.assign(pair.ids.size(), 0);
  pair.token_types.back() = 1;
  EXPECT_EQ(TextClient(model(), pair).finish(), expected_vector(pair));
}

TEST_F(EncodeTest, WhatCanNeverRunIsRefusedWithTheNumbers) {
  serve(encoder({"--vocab", "1000", "--max-model-len", "20"}));
  const auto invalid = core::ErrorKind::kInvalidArgument;
  EncodeRequest request = text(1);
  request.ids.clear();
  EXPECT_THAT(refusal(request, invalid), HasSubstr("no tokens"));
  request.ids.assign(21, 1);
  EXPECT_THAT(refusal(request, invalid), HasSubstr("21 tokens; model m takes at most 20"));
  request.ids.assign(20, 1);
  EXPECT_EQ(TextClient(model(), request).finish(), expected_vector(request));
  request.ids[3] = 1000;
  EXPECT_THAT(refusal(request, invalid), HasSubstr("token id 1000; model m knows 0 to 999"));
  request.ids[3] = -1;
  EXPECT_THAT(refusal(request, invalid), HasSubstr("token id -1"));
  request = text(1);
  request.token_types = {0};
  EXPECT_THAT(refusal(request, invalid), HasSubstr("1 token types"));
}

TEST_F(EncodeTest, EachKindOfModelDoesItsOwnWork) {
  serve(encoder());
  EXPECT_THROW(
      {
        try {
          Client(model(), request(1, 5));
        } catch (const core::Error& error) {
          EXPECT_EQ(error.kind(), core::ErrorKind::kUnsupported);
          EXPECT_THAT(error.what(), HasSubstr("does not generate"));
          throw;
        }
      },
      core::Error);
  serve(echo({"--embedding-size", "3"}));
  EXPECT_THAT(refusal(text(1, generation::EncodeKind::kClassify), core::ErrorKind::kUnsupported),
              HasSubstr("no classifier"));
  serve(echo());
  EXPECT_THAT(refusal(text(1), core::ErrorKind::kUnsupported), HasSubstr("generates"));
}

TEST_F(EncodeTest, TextsSurviveKillsAtAnyMoment) {
  serve(encoder({"--step-ms", "3", "--max-sequences", "2"}));
  std::mt19937 random(std::random_device{}());
  std::atomic<int> running{8};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this, i, &running] {
      for (int k = 0; k < 40; ++k) {
        const EncodeRequest mine = text(i * 40 + k);
        EXPECT_EQ(TextClient(model(), mine).finish(), expected_vector(mine));
      }
      --running;
    });
  }
  int kills = 0;
  while (running > 0 && kills < 6) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 100));
    if (model().status().host_pid > 0) ++kills;
    kill_host();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(model().status().restarts, 1u);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"encoded\"}"), 320);
}

TEST_F(EncodeTest, HalfAVectorIsForgottenWithItsHost) {
  serve(bad_encoder("half-vector,echo"));
  EncodeRequest mine = text(2);
  mine.ids = {1, 2, 3, 4};
  TextClient client(model(), mine);
  // The half may be here already, or never come.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill_host();
  std::vector<float> vector = client.finish();
  ASSERT_EQ(vector.size(), 4u);
  EXPECT_FLOAT_EQ(vector[0], 1 + 0.125f + 0.5f);
}

TEST_F(EncodeTest, AHostThatSendsWrongVectorsIsReplaced) {
  for (const char* word : {"short-vector", "long-vector"}) {
    std::filesystem::remove(folder_.path() / "starts");
    serve(bad_encoder(std::string(word) + ",echo"));
    EncodeRequest mine = text(0);
    mine.ids = {1, 2, 3, 4};
    EXPECT_THAT(TextClient(model(), mine).finish(), ElementsAre(1.125f, 2.125f, 3.125f, 4.125f)) << word;
    EXPECT_EQ(model().status().restarts, 1u) << word;
  }
  // A vector for who asked for tokens.
  std::filesystem::remove(folder_.path() / "starts");
  serve(bad("stray-vector,echo"));
  GenerationRequest mine = request(1, 5);
  mine.prompt_ids = {1, 2, 3};
  EXPECT_EQ(Client(model(), mine).finish(), expected(mine));
  EXPECT_EQ(model().status().restarts, 1u);
}

TEST_F(EncodeTest, ValuesThatAreNoNumbersFailTheirText) {
  serve(bad_encoder("nan-vector"));
  EncodeRequest mine = text(0);
  mine.ids = {1, 2, 3, 4};
  TextClient client(model(), mine);
  const core::Error error = client.wait_for_error();
  EXPECT_EQ(error.kind(), core::ErrorKind::kInternal);
  EXPECT_THAT(error.what(), HasSubstr("not numbers"));
  EXPECT_EQ(client.wait_for_error().what(), std::string(error.what())) << "the same every time";
  EXPECT_EQ(model().status().restarts, 0u);
}

TEST_F(EncodeTest, ACancelledTextMakesRoom) {
  ModelSource what = source();
  what.options.job_queue_size = 1;
  serve(encoder({"--hang-after-steps", "1", "--max-sequences", "1", "--step-ms", "1"}), what);
  TextClient first(model(), text(1));
  EXPECT_EQ(first.finish(), expected_vector(text(1)));
  // Now nothing comes any more: two fill the host, one the queue.
  TextClient second(model(), text(2));
  TextClient third(model(), text(3));
  ASSERT_TRUE(eventually([&] { return model().status().in_host == 2; }));
  TextClient fourth(model(), text(4));
  EXPECT_THAT(refusal(text(5), core::ErrorKind::kOverloaded), HasSubstr("Worker queue capacity exceeded"));
  fourth.cancel();
  TextClient fifth(model(), text(5));
  second.cancel();
  third.cancel();
  ASSERT_TRUE(eventually([&] { return model().status().queued == 0; }));
  kill_host();
  EXPECT_EQ(fifth.finish(), expected_vector(text(5)));
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"cancelled\"}"), 3);
}

TEST_F(EncodeTest, TheVocabularyGoesToEveryHostInPieces) {
  serve(bad("record"));
  auto tokens = std::make_shared<std::vector<std::string>>();
  for (int i = 0; i < 3000; ++i) tokens->push_back(std::string(1000, static_cast<char>('a' + i % 26)));
  model().set_vocabulary(tokens);
  const auto all_there = [&] {
    std::size_t count = 0;
    for (const std::string& line : recorded()) count += line.ends_with("last=1") ? 1 : 0;
    return count;
  };
  ASSERT_TRUE(eventually([&] { return all_there() == 1; }));
  kill_host();
  ASSERT_TRUE(eventually([&] { return all_there() == 2; }));
  std::size_t sum = 0;
  for (const std::string& line : recorded()) {
    ASSERT_THAT(line, HasSubstr("vocabulary tokens="));
    const auto count = std::stoul(line.substr(line.find('=') + 1));
    EXPECT_LE(count, 1100u);
    sum += count;
  }
  EXPECT_EQ(sum, 6000u);
}

TEST_F(EncodeTest, AnEncoderGetsNoVocabulary) {
  serve(encoder());
  model().set_vocabulary(std::make_shared<const std::vector<std::string>>(10, "x"));
  EXPECT_EQ(TextClient(model(), text(1)).finish(), expected_vector(text(1)));
}

}  // namespace
}  // namespace peregrine::serving
