// SPDX-License-Identifier: Apache-2.0
#include "engine/encoder_engine.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <list>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/error.h"
#include "engine/checks.h"

namespace peregrine::engine {

using core::ErrorKind;

namespace {

model::EncoderLimits choose_limits(const EngineOptions& options, std::int64_t length) {
  check_range("max_rolling_batch_size", options.max_rolling_batch_size, 1, kMostSequences);
  check_range("max_rolling_batch_prefill_tokens", options.max_rolling_batch_prefill_tokens, 1,
              kMostPrefillTokens);
  // Buffers are planned for it: no more than what could ever be computed at once, and no less than one text.
  const std::int64_t tokens = std::clamp<std::int64_t>(options.max_rolling_batch_prefill_tokens, length,
                                                       length * options.max_rolling_batch_size);
  if (tokens > std::numeric_limits<std::int32_t>::max() / 2) {
    core::fail(ErrorKind::kInvalidArgument, "a batch of {} tokens is too large; lower max_model_length ({})",
               tokens, length);
  }
  return {.rows = static_cast<std::int32_t>(tokens), .sequences = options.max_rolling_batch_size};
}

void check_text(const EncodeRequest& request, const model::EncoderConfig& config, std::int64_t longest) {
  if (request.ids.empty()) {
    core::fail(ErrorKind::kInvalidArgument, "the text has no tokens; it must have at least one");
  }
  if (std::ssize(request.ids) > longest) {
    core::fail(ErrorKind::kInvalidArgument,
               "the text has {} tokens; the model takes at most {} (max_model_length)", request.ids.size(),
               longest);
  }
  check_values(request.ids, config.vocab_size, "ids", "token ids");
  if (!request.token_types.empty() && request.token_types.size() != request.ids.size()) {
    core::fail(ErrorKind::kInvalidArgument,
               "token_types has {} values for {} ids; it must have one for each, or none",
               request.token_types.size(), request.ids.size());
  }
  // A model without them takes what a tokenizer gives to a text that is not a pair.
  check_values(request.token_types, std::max(config.token_types, 1), "token_types", "token types");
  if (request.kind == generation::EncodeKind::kClassify && config.head.labels.empty()) {
    core::fail(ErrorKind::kInvalidArgument, "this model ({}) has no classifier; it gives embeddings only",
               config.family);
  }
}

/// Scales a vector to length 1.
void normalize(std::span<float> vector) {
  double squares = 0;
  for (const float value : vector) squares += double{value} * value;
  // The bound is that of PyTorch's normalize().
  const double norm = std::max(std::sqrt(squares), 1e-12);
  for (float& value : vector) value = static_cast<float>(value / norm);
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

struct EncoderEngine::Impl {
  using Texts = std::list<EncodeRequest>;

  Impl(ops::Device& device, const model::Encoder& model, const EngineOptions& options);

  void submit(EncodeRequest request);
  bool cancel(RequestId id);
  bool step(const Sink& sink);

  /// Moves the texts of the next batch from `waiting`, in order, to `batch`.
  void take_batch();
  /// Puts the texts of the batch that were not handed over back.
  void return_batch();
  void compute();
  void download(const ops::Matrix& from, std::int64_t first, std::int64_t rows, std::vector<float>& to);
  /// A text's last hidden states as one vector, into `pooled`.
  void pool(const float* rows, std::size_t tokens, generation::Pooling pooling);
  /// The vector of the text that begins at row `row` and is the batch's `index`th; valid until the next call.
  std::span<const float> vector_of(const EncodeRequest& text, std::size_t row, std::size_t index);

  const model::Encoder& encoder;
  std::int64_t longest;
  model::EncoderLimits limits;
  std::unique_ptr<model::EncoderBuffers> buffers;
  std::unique_ptr<ops::Stream> stream;
  MemoryPlan plan;
  EngineStats stats;

  Texts waiting;
  Texts batch;
  std::unordered_map<RequestId, Texts::iterator> places;  ///< Of those that wait.
  std::vector<model::EncoderSequence> sequences;          ///< Of the batch.
  std::vector<float> hidden;                              ///< [rows, hidden]
  std::vector<float> scores;                              ///< [sequences, labels]
  std::vector<float> pooled;                              ///< [hidden]
  std::vector<double> sums;                               ///< [hidden]
};

EncoderEngine::Impl::Impl(ops::Device& device, const model::Encoder& model, const EngineOptions& options)
    : encoder(model),
      longest(choose_model_length(model.config().max_positions, model.config().usual_positions,
                                  options.max_model_length, 1, " (the model's longest text)")),
      limits(choose_limits(options, longest)),
      buffers(model.create_buffers(limits)),
      stream(device.create_stream()) {
  const model::EncoderConfig& config = model.config();
  const auto width = static_cast<std::size_t>(config.hidden_size);
  const auto texts = static_cast<std::size_t>(limits.sequences);
  sequences.reserve(texts);
  hidden.resize(static_cast<std::size_t>(limits.rows) * width);
  scores.resize(texts * config.head.labels.size());
  pooled.resize(width);
  sums.resize(width);
  plan.weight_bytes = model.weight_bytes();
  plan.buffer_bytes = buffers->bytes() + (hidden.size() + scores.size() + pooled.size()) * sizeof(float);
  plan.max_model_length = longest;
}

void EncoderEngine::Impl::submit(EncodeRequest request) {
  check_text(request, encoder.config(), longest);
  if (places.contains(request.id)) {
    core::fail(ErrorKind::kInvalidArgument, "request {} is waiting already", request.id);
  }
  const RequestId id = request.id;
  waiting.push_back(std::move(request));
  places.emplace(id, std::prev(waiting.end()));
}

bool EncoderEngine::Impl::cancel(RequestId id) {
  const auto found = places.find(id);
  if (found == places.end()) return false;
  waiting.erase(found->second);
  places.erase(found);
  return true;
}

void EncoderEngine::Impl::take_batch() {
  std::size_t rows = 0;
  while (!waiting.empty() && batch.size() < static_cast<std::size_t>(limits.sequences)) {
    const auto next = waiting.begin();
    rows += next->ids.size();
    if (rows > static_cast<std::size_t>(limits.rows)) break;
    places.erase(next->id);
    batch.splice(batch.end(), waiting, next);
  }
}

void EncoderEngine::Impl::return_batch() {
  for (auto text = batch.begin(); text != batch.end(); ++text) places[text->id] = text;
  waiting.splice(waiting.begin(), batch);
}

void EncoderEngine::Impl::download(const ops::Matrix& from, std::int64_t first, std::int64_t rows,
                                   std::vector<float>& to) {
  // In one piece where rows adjoin, as they do in every model of real width.
  const std::int64_t piece = from.stride == from.cols ? rows : 1;
  for (std::int64_t row = first; row < first + rows; row += piece) {
    stream->download(to.data() + row * from.cols,
                     from.data + static_cast<std::size_t>(row * from.stride) * sizeof(float),
                     static_cast<std::size_t>(piece * from.cols) * sizeof(float));
  }
}

void EncoderEngine::Impl::compute() {
  const model::EncoderConfig& config = encoder.config();
  sequences.clear();
  bool classifies = false;
  for (const EncodeRequest& text : batch) {
    sequences.push_back({.tokens = text.ids, .token_types = {}});
    if (config.token_types > 0) sequences.back().token_types = text.token_types;
    classifies = classifies || text.kind == generation::EncodeKind::kClassify;
  }
  encoder.begin(*stream, *buffers, sequences);
  encoder.run_layers(*stream, *buffers, 0, config.layers);
  const model::EncodedBatch encoded = encoder.finish(*stream, *buffers);
  if (encoded.hidden.dtype != core::DType::kF32) {
    core::fail(ErrorKind::kInternal, "an encoder that stands alone gives {}, not float32",
               core::to_string(encoded.hidden.dtype));
  }
  std::int64_t row = 0;
  for (const EncodeRequest& text : batch) {
    const auto tokens = std::ssize(text.ids);
    if (text.kind == generation::EncodeKind::kEmbed) {
      const bool mean = text.pooling == generation::Pooling::kMean;
      const bool last = text.pooling == generation::Pooling::kLast;
      download(encoded.hidden, last ? row + tokens - 1 : row, mean ? tokens : 1, hidden);
    }
    row += tokens;
  }
  if (classifies) download(encoder.classify(*stream, *buffers), 0, std::ssize(batch), scores);
  stream->wait(stream->record());
  ++stats.steps;
  stats.prefill_tokens += static_cast<std::uint64_t>(row);
}

void EncoderEngine::Impl::pool(const float* rows, std::size_t tokens, generation::Pooling pooling) {
  const std::size_t width = pooled.size();
  if (pooling != generation::Pooling::kMean) {
    const std::size_t row = pooling == generation::Pooling::kCls ? 0 : tokens - 1;
    std::copy_n(rows + row * width, width, pooled.begin());
    return;
  }
  // From the first position to the last, so that a text's sum is always the same.
  std::fill(sums.begin(), sums.end(), 0.0);
  for (std::size_t row = 0; row < tokens; ++row) {
    for (std::size_t i = 0; i < width; ++i) sums[i] += rows[row * width + i];
  }
  for (std::size_t i = 0; i < width; ++i) {
    pooled[i] = static_cast<float>(sums[i] / static_cast<double>(tokens));
  }
}

std::span<const float> EncoderEngine::Impl::vector_of(const EncodeRequest& text, std::size_t row,
                                                      std::size_t index) {
  std::span<const float> out = pooled;
  if (text.kind == generation::EncodeKind::kClassify) {
    const std::size_t labels = encoder.config().head.labels.size();
    out = std::span(scores).subspan(index * labels, labels);
  } else {
    pool(hidden.data() + row * pooled.size(), text.ids.size(), text.pooling);
    if (text.normalize) normalize(pooled);
  }
  return all_finite(out) ? out : std::span<const float>();
}

bool EncoderEngine::Impl::step(const Sink& sink) {
  take_batch();
  if (batch.empty()) return false;
  try {
    compute();
    std::size_t row = 0;
    for (std::size_t index = 0; !batch.empty(); ++index) {
      const EncodeRequest text = std::move(batch.front());
      batch.pop_front();
      sink(text.id, vector_of(text, row, index));
      row += text.ids.size();
    }
  } catch (...) {
    return_batch();
    throw;
  }
  return true;
}

EncoderEngine::EncoderEngine(ops::Device& device, const model::Encoder& encoder, const EngineOptions& options)
    : impl_(std::make_unique<Impl>(device, encoder, options)) {}

EncoderEngine::~EncoderEngine() = default;

void EncoderEngine::submit(EncodeRequest request) { impl_->submit(std::move(request)); }
bool EncoderEngine::cancel(RequestId id) { return impl_->cancel(id); }
bool EncoderEngine::step(const Sink& sink) { return impl_->step(sink); }
bool EncoderEngine::idle() const { return impl_->waiting.empty(); }

EngineStats EncoderEngine::stats() const {
  EngineStats out = impl_->stats;
  out.waiting = static_cast<std::int32_t>(impl_->waiting.size());
  return out;
}

const MemoryPlan& EncoderEngine::memory_plan() const { return impl_->plan; }

}  // namespace peregrine::engine
