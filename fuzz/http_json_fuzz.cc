// SPDX-License-Identifier: Apache-2.0
// rooms: api text core
//
// The first byte of the input picks the route, the rest is the body of a request to a model that answers a
// few tokens at once. Whatever comes in, the answer is 200 or 4xx, and an error is JSON.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "api/service.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace {

using namespace peregrine;

void require(bool condition) {
  if (!condition) std::abort();
}

constexpr std::int32_t kVocabSize = 257;

/// A directory with the smallest model of text: bytes, and <s> as 256.
class TinyDirectory {
 public:
  TinyDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "http_json_fuzz.XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    write("config.json", R"({"architectures":["FalconForCausalLM"],"vocab_size":257,"eos_token_id":256})");
    write("tokenizer_config.json",
          R"({"chat_template":"{% for m in messages %}{{ m['content'] }} {% endfor %}"})");
    std::string vocab;
    for (int byte = 0; byte < 256; ++byte) {
      if (byte > 0) vocab += ',';
      vocab += boost::json::serialize(
          boost::json::value(text::byte_level_character(static_cast<unsigned char>(byte))));
      vocab += ":" + std::to_string(byte);
    }
    write("tokenizer.json",
          R"({"version":"1.0","added_tokens":[{"id":256,"content":"<s>","single_word":false,"lstrip":false,)"
          R"("rstrip":false,"normalized":false,"special":true}],"normalizer":null,)"
          R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
          R"("post_processor":null,)"
          R"("decoder":{"type":"ByteLevel"},)"
          R"("model":{"type":"BPE","merges":[],"vocab":{)" +
              vocab + "}}}");
  }
  ~TinyDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name) << text; }
  std::filesystem::path path_;
};

/// Gives all tokens at once: those of the prompt, again and again.
class Echo : public serving::Generation {
 public:
  explicit Echo(serving::GenerationRequest request) : request_(std::move(request)) {}

  bool take(std::vector<serving::SequenceUpdate>& out) override {
    const auto& parameters = request_.parameters;
    require(!request_.prompt_ids.empty() && parameters.n >= 1 && parameters.max_new_tokens >= 1);
    for (std::int32_t i = 0; i < parameters.n; ++i) {
      serving::SequenceUpdate update;
      update.sequence = i;
      update.finish = generation::FinishReason::kLength;
      for (std::int32_t k = 0; k < std::min(parameters.max_new_tokens, 20); ++k) {
        const std::int32_t id = request_.prompt_ids[static_cast<std::size_t>(k) % request_.prompt_ids.size()];
        update.tokens.push_back({{id, -1.0f}, {}});
        if (parameters.top_n_tokens > 0) update.tokens.back().top.push_back({id, -1.0f});
      }
      out.push_back(std::move(update));
    }
    return true;
  }
  serving::Timing timing() const override { return {}; }

 private:
  serving::GenerationRequest request_;
};

class EchoModel : public serving::Model {
 public:
  explicit EchoModel(const std::filesystem::path& path)
      : directory_(model_info::ModelDirectory::open(path)) {}

  const std::string& name() const override { return name_; }
  const configuration::ModelOptions& options() const override { return options_; }
  const model_info::ModelDirectory& directory() const override { return directory_; }
  serving::ModelStatus status() const override {
    serving::ModelStatus status;
    status.state = serving::ModelState::kReady;
    return status;
  }
  serving::Limits limits() const override { return {kVocabSize, 512, 4}; }
  std::unique_ptr<serving::Generation> generate(serving::GenerationRequest request,
                                                std::function<void()> wake) override {
    wake();
    return std::make_unique<Echo>(std::move(request));
  }

 private:
  std::string name_ = "echo";
  configuration::ModelOptions options_;
  model_info::ModelDirectory directory_;
};

api::Service& service() {
  static serving::Metrics metrics;
  static const std::unique_ptr<api::Service> kService = [] {
    spdlog::set_level(spdlog::level::off);
    const TinyDirectory directory;  // only read while the service is made
    static EchoModel model(directory.path());
    return api::create_service({&model}, metrics);
  }();
  return *kService;
}

constexpr std::array<std::string_view, 6> kRoutes = {"/invocations",         "/v1/completions",
                                                     "/v1/chat/completions", "/predictions/echo",
                                                     "/v1/models/echo",      "/models/echo/invoke"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  api::HttpRequest request;
  request.method = "POST";
  request.path = kRoutes[data[0] % kRoutes.size()];
  request.body.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto exchange = service().handle(std::move(request), [] {});
  api::Head head;
  std::string body;
  int calls = 0;
  while (exchange->next(head, body) != api::Exchange::State::kDone) require(++calls < 100);
  require(head.status == 200 || (head.status >= 400 && head.status < 500));
  require(text::is_valid_utf8(body));
  if (head.content_type == "application/json") {
    boost::json::error_code error;
    boost::json::parse(body, error);
    require(!error);
  }
  return 0;
}
