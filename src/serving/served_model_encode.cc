// SPDX-License-Identifier: Apache-2.0
// What a model does for texts that are encoded and not continued, and the vocabulary that its hosts get.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
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

/// A message of many megabytes would hold up what comes behind it.
constexpr std::size_t kVocabularyPiece = std::size_t{1} << 20;

/// A text as its owner sees it.
class OwnedEncoding final : public Encoding {
 public:
  OwnedEncoding(std::uint64_t id, std::shared_ptr<VectorBox> box, std::shared_ptr<CancelDoor> door)
      : id_(id), box_(std::move(box)), door_(std::move(door)) {}
  ~OwnedEncoding() override {
    if (box_->abandon()) door_->cancel(id_);
  }

  bool take(std::vector<float>& out) override { return box_->take(out); }
  Timing timing() const override { return box_->timing(); }

 private:
  const std::uint64_t id_;
  const std::shared_ptr<VectorBox> box_;
  const std::shared_ptr<CancelDoor> door_;
};

/// Values of the vector that a request gets.
std::int32_t vector_size(const EncodeRequest& request, const Limits& limits) {
  return request.kind == generation::EncodeKind::kEmbed ? limits.embedding_size : limits.labels;
}

/// Throws where a text could never be encoded, whatever else runs.
void check_fits(const EncodeRequest& request, const std::string& model, const Limits& limits) {
  if (limits.generates()) {
    fail(ErrorKind::kUnsupported, "model {} generates text; it neither embeds nor classifies", model);
  }
  if (vector_size(request, limits) == 0) {
    fail(ErrorKind::kUnsupported, "model {} has no classifier: it only embeds", model);
  }
  const auto tokens = static_cast<std::int64_t>(request.ids.size());
  if (tokens == 0) fail(ErrorKind::kInvalidArgument, "the text has no tokens");
  if (tokens > limits.max_model_length) {
    fail(ErrorKind::kInvalidArgument, "the text has {} tokens; model {} takes at most {}", tokens, model,
         limits.max_model_length);
  }
  for (const std::int32_t id : request.ids) {
    if (id < 0 || id >= limits.vocab_size) {
      fail(ErrorKind::kInvalidArgument, "the text has token id {}; model {} knows 0 to {}", id, model,
           limits.vocab_size - 1);
    }
  }
  if (!request.token_types.empty() && request.token_types.size() != request.ids.size()) {
    fail(ErrorKind::kInvalidArgument, "the text has {} tokens and {} token types; there must be as many",
         tokens, request.token_types.size());
  }
}

wire::Pooling to_message(generation::Pooling pooling) {
  switch (pooling) {
    case generation::Pooling::kMean:
      return wire::MEAN;
    case generation::Pooling::kCls:
      return wire::CLS;
    case generation::Pooling::kLast:
      return wire::LAST;
  }
  fail(ErrorKind::kInternal, "{} is no pooling", static_cast<int>(pooling));
}

}  // namespace

std::unique_ptr<Encoding> ServedModel::encode(EncodeRequest request, std::function<void()> wake) {
  try {
    check_fits(request, name_, accepting());
    auto item = std::make_shared<Request>();
    const auto box = std::make_shared<VectorBox>(std::move(wake));
    item->encode = std::make_unique<EncodeJob>(EncodeJob{std::move(request), box});
    enqueue(item);
    surroundings_.loop.post([this] { pump(); });
    return std::make_unique<OwnedEncoding>(item->id, box, door_);
  } catch (const Error& error) {
    metrics_.request_ended(error.kind() == ErrorKind::kOverloaded ? "overloaded" : "refused");
    throw;
  }
}

void ServedModel::write_encode(Request& request, wire::Submit& submit) {
  EncodeJob& job = *request.encode;
  const EncodeRequest& text = job.request;
  submit.set_kind(text.kind == generation::EncodeKind::kEmbed ? wire::EMBED : wire::CLASSIFY);
  submit.mutable_prompt_ids()->Add(text.ids.begin(), text.ids.end());
  submit.mutable_token_types()->Add(text.token_types.begin(), text.token_types.end());
  submit.set_pooling(to_message(text.pooling));
  submit.set_normalize(text.normalize);
  // Of an earlier host a part may have come.
  job.values.clear();
}

void ServedModel::on_result(const wire::Result& result) {
  const auto place = in_host_.find(result.request());
  if (place == in_host_.end()) return;  // Cancelled, and on its way before the host knew.
  const Item item = place->second;
  const std::size_t expected = [&]() -> std::size_t {
    if (!item->encode) return 0;
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::max(vector_size(item->encode->request, shared_.now), 0));
  }();
  const std::size_t count =
      static_cast<std::size_t>(result.values_size()) + (item->encode ? item->encode->values.size() : 0);
  if (result.model() != name_ || expected == 0 || count > expected || (result.last() && count != expected)) {
    return supervisor_.broken(fmt::format("it sent {} values for request {} of model {}, whose vector has {}",
                                          count, item->id, core::quoted(result.model()), expected));
  }
  EncodeJob& job = *item->encode;
  job.values.insert(job.values.end(), result.values().begin(), result.values().end());
  if (!result.last()) return;
  if (!std::all_of(job.values.begin(), job.values.end(), [](float value) { return std::isfinite(value); })) {
    fail_request(item->id, Error(ErrorKind::kInternal, "the model computed values that are not numbers"),
                 "failed");
    return pump();
  }
  item->timing.first_token_seconds =
      std::max(std::chrono::duration<double>(Clock::now() - item->submitted).count(), 1e-9);
  job.box->set_timing(item->timing);
  ++encoded_in_step_;
  forget(place, "encoded");
  pump();
  // Last: who learns that his request has ended finds its place free.
  job.box->fill(std::move(job.values));
}

void ServedModel::set_vocabulary(std::shared_ptr<const std::vector<std::string>> bytes) {
  {
    const std::lock_guard lock(mutex_);
    shared_.vocabulary = std::move(bytes);
  }
  surroundings_.loop.post([this] { send_vocabulary(); });
}

void ServedModel::send_vocabulary() {
  std::shared_ptr<const std::vector<std::string>> tokens;
  {
    const std::lock_guard lock(mutex_);
    if (shared_.phase != ModelState::kReady || !shared_.now.generates()) return;
    tokens = shared_.vocabulary;
  }
  if (!tokens) return;
  wire::ToHost message;
  wire::Vocabulary& piece = *message.mutable_vocabulary();
  piece.set_model(name_);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < tokens->size(); ++i) {
    piece.add_tokens((*tokens)[i]);
    bytes += (*tokens)[i].size() + sizeof(std::uint64_t);
    const bool last = i + 1 == tokens->size();
    if (!last && bytes < kVocabularyPiece) continue;
    piece.set_last(last);
    supervisor_.send(message);
    piece.clear_tokens();
    bytes = 0;
  }
}

}  // namespace peregrine::serving
