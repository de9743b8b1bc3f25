// SPDX-License-Identifier: Apache-2.0
#include "engine/score.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"

namespace peregrine::engine {

using core::ErrorKind;

namespace {

/// `what` names the tokens in messages.
void check(std::span<const std::int32_t> ids, std::int64_t max_positions, std::int64_t vocab_size,
           std::string_view what) {
  if (ids.empty())
    core::fail(ErrorKind::kInvalidArgument, "no {} to score; there must be at least one", what);
  const std::int64_t longest =
      std::min<std::int64_t>(max_positions, std::numeric_limits<std::int32_t>::max() / 2);
  if (std::ssize(ids) > longest) {
    core::fail(ErrorKind::kInvalidArgument, "{} {} to score; the model's context is {} tokens", ids.size(),
               what, longest);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      core::fail(ErrorKind::kInvalidArgument, "id {} at position {} of the {}; the model's are 0 to {}",
                 ids[i], i, what, vocab_size - 1);
    }
  }
}

std::int32_t blocks_of(std::int32_t tokens) { return core::ceil_div(tokens, ops::kBlockTokens); }

void download_rows(ops::Stream& stream, const ops::Matrix& from, std::int64_t width, float* to) {
  for (std::int64_t row = 0; row < from.rows; ++row) {
    stream.download(to + row * width, from.data + static_cast<std::size_t>(row * from.stride) * sizeof(float),
                    static_cast<std::size_t>(width) * sizeof(float));
  }
}

/// A text on its way through a model.
class Scorer {
 public:
  /// `encoder` is null for a decoder-only model.
  Scorer(ops::Device& device, const model::Decoder& decoder, const model::Encoder* encoder,
         const ScoredText& text, std::int32_t chunk)
      : device_(device),
        decoder_(decoder),
        encoder_(encoder),
        text_(text),
        length_(static_cast<std::int32_t>(text.ids.size())),
        source_length_(static_cast<std::int32_t>(text.encoder_ids.size())),
        step_rows_(std::min(chunk, length_)),
        frequencies_(decoder.rotary_frequencies(length_)) {}

  std::vector<float> run(bool all_positions) {
    prepare(all_positions);
    if (encoder_ != nullptr) encode();
    const std::int64_t vocab_size = decoder_.config().vocab_size;
    std::vector<float> logits(static_cast<std::size_t>(all_positions ? length_ : 1) *
                              static_cast<std::size_t>(vocab_size));
    float* next = logits.data();
    for (std::int32_t start = 0; start < length_; start += step_rows_) {
      const model::StepSequence sequence = piece(start, all_positions);
      const ops::Matrix out = decoder_.forward(*stream_, *buffers_, *cache_, {&sequence, 1});
      if (sequence.logit_rows > 0) {
        download_rows(*stream_, out, vocab_size, next);
        next += sequence.logit_rows * vocab_size;
      }
      stream_->wait(stream_->record());  // The buffers are made for one step.
    }
    return logits;
  }

 private:
  void prepare(bool all_positions) {
    model::StepLimits limits;
    limits.rows = step_rows_;
    limits.sequences = 1;
    limits.logit_rows = all_positions ? step_rows_ : 1;
    limits.blocks_per_sequence = blocks_of(length_);
    limits.slots = 1;
    limits.encoder = {source_length_, 1};
    limits.cross_blocks_per_sequence = blocks_of(source_length_);
    buffers_ = decoder_.create_buffers(limits, 1);
    if (encoder_ != nullptr) encoder_buffers_ = encoder_->create_buffers(limits.encoder);
    ops::KvCacheSpec spec = decoder_.kv_cache_spec();
    spec.blocks = limits.blocks_per_sequence + limits.cross_blocks_per_sequence;
    cache_ = device_.create_kv_cache(spec);
    blocks_.resize(static_cast<std::size_t>(spec.blocks));
    std::iota(blocks_.begin(), blocks_.end(), 0);
    stream_ = device_.create_stream();
  }

  /// The text's blocks lie behind the decoder's own.
  std::span<const std::int32_t> source_blocks() const {
    return std::span(blocks_).subspan(static_cast<std::size_t>(blocks_of(length_)));
  }

  void encode() {
    const model::EncoderSequence source{.tokens = text_.encoder_ids};
    encoder_->begin(*stream_, *encoder_buffers_, {&source, 1});
    encoder_->run_layers(*stream_, *encoder_buffers_, 0, encoder_->config().layers);
    const model::EncodedBatch encoded = encoder_->finish(*stream_, *encoder_buffers_);
    const auto blocks = source_blocks();
    decoder_.store_cross(*stream_, *buffers_, *cache_, encoded, {&blocks, 1});
  }

  model::StepSequence piece(std::int32_t start, bool all_positions) const {
    const std::int32_t count = std::min(step_rows_, length_ - start);
    const bool last = start + count == length_;
    const auto used = static_cast<std::size_t>(blocks_of(start + count));
    return {.tokens = text_.ids.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(count)),
            .start = start,
            .blocks = std::span(blocks_).first(used),
            .rotary_frequencies = frequencies_,
            .logit_rows = all_positions ? count : (last ? 1 : 0),
            .cross_blocks = source_blocks(),
            .cross_length = source_length_};
  }

  ops::Device& device_;
  const model::Decoder& decoder_;
  const model::Encoder* encoder_;
  ScoredText text_;
  std::int32_t length_;
  std::int32_t source_length_;
  std::int32_t step_rows_;
  std::vector<float> frequencies_;
  std::vector<std::int32_t> blocks_;
  std::unique_ptr<ops::KvCache> cache_;
  std::unique_ptr<model::EncoderBuffers> encoder_buffers_;
  std::unique_ptr<model::StepBuffers> buffers_;
  std::unique_ptr<ops::Stream> stream_;  // The first to go: the others must outlive what is queued.
};

void check_chunk(std::int32_t chunk) {
  if (chunk < 1) core::fail(ErrorKind::kInvalidArgument, "chunk is {}; it must be at least 1", chunk);
}

}  // namespace

std::vector<float> compute_logits(ops::Device& device, const model::Decoder& model,
                                  std::span<const std::int32_t> ids, bool all_positions, std::int32_t chunk) {
  check(ids, model.config().max_positions, model.config().vocab_size, "tokens");
  check_chunk(chunk);
  if (model.config().cross_attention) {
    core::fail(ErrorKind::kInvalidArgument, "an encoder-decoder needs a text for its encoder");
  }
  return Scorer(device, model, nullptr, {ids}, chunk).run(all_positions);
}

std::vector<float> compute_logits(ops::Device& device, const model::LoadedModel& model,
                                  const ScoredText& text, bool all_positions, std::int32_t chunk) {
  if (model.decoder == nullptr) {
    core::fail(ErrorKind::kUnsupported, "the model is an encoder; it has no logits of next tokens");
  }
  if (model.encoder == nullptr) {
    if (!text.encoder_ids.empty()) {
      core::fail(ErrorKind::kInvalidArgument, "{} tokens for an encoder; the model has none",
                 text.encoder_ids.size());
    }
    return compute_logits(device, *model.decoder, text.ids, all_positions, chunk);
  }
  const model::EncoderConfig& encoder = model.encoder->config();
  check(text.ids, model.decoder->config().max_positions, model.decoder->config().vocab_size,
        "decoder tokens");
  check(text.encoder_ids, encoder.max_positions, encoder.vocab_size, "encoder tokens");
  check_chunk(chunk);
  return Scorer(device, *model.decoder, model.encoder.get(), text, chunk).run(all_positions);
}

}  // namespace peregrine::engine
