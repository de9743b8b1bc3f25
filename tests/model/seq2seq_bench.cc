// SPDX-License-Identifier: Apache-2.0
#include "model/seq2seq_bench.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace peregrine::model {

Seq2SeqBench::Seq2SeqBench(std::unique_ptr<ops::Device> device,
                           const std::function<LoadedModel(ops::Device&)>& load)
    : device_(std::move(device)), model_(load(*device_)), stream_(device_->create_stream()) {
  auto spec = decoder().kv_cache_spec();
  spec.blocks = kBlocks;
  cache_ = device_->create_kv_cache(spec);
  buffers_ = decoder().create_buffers(kLimits, 1);
  encoder_buffers_ = encoder().create_buffers(kLimits.encoder);
}

std::vector<std::int32_t> Seq2SeqBench::take_blocks(std::size_t tokens) {
  std::vector<std::int32_t> out;
  for (std::size_t covered = 0; covered < tokens; covered += static_cast<std::size_t>(ops::kBlockTokens)) {
    out.push_back(next_block_ * 37 % kBlocks);  // 37 and 512 have no common factor
    ++next_block_;
  }
  if (next_block_ > kBlocks) throw std::runtime_error("the test takes more blocks than there are");
  return out;
}

AnswerText Seq2SeqBench::answer(std::vector<std::int32_t> tokens) {
  auto blocks = take_blocks(tokens.size());
  return {std::move(tokens), std::move(blocks)};
}

std::vector<StoredText> Seq2SeqBench::store(const std::vector<std::vector<std::int32_t>>& texts,
                                            const std::vector<bool>& wanted) {
  std::vector<StoredText> out;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool skipped = !wanted.empty() && !wanted[i];
    out.push_back({skipped ? std::vector<std::int32_t>{} : take_blocks(texts[i].size()),
                   static_cast<std::int32_t>(texts[i].size())});
  }
  std::vector<std::span<const std::int32_t>> blocks;
  for (const auto& text : out) blocks.push_back(text.blocks);
  store_cross(texts, blocks);
  return out;
}

void Seq2SeqBench::store_at(const std::vector<std::int32_t>& text, std::span<const std::int32_t> blocks) {
  store_cross({text}, {&blocks, 1});
}

void Seq2SeqBench::store_cross(const std::vector<std::vector<std::int32_t>>& texts,
                               std::span<const std::span<const std::int32_t>> blocks) {
  std::vector<EncoderSequence> batch;
  for (const auto& text : texts) batch.push_back({.tokens = text});
  encoder().begin(*stream_, *encoder_buffers_, batch);
  encoder().run_layers(*stream_, *encoder_buffers_, 0, encoder().config().layers);
  const EncodedBatch encoded = encoder().finish(*stream_, *encoder_buffers_);
  decoder().store_cross(*stream_, *buffers_, *cache_, encoded, blocks);
  stream_->wait(stream_->record());
}

StepSequence Seq2SeqBench::piece(const AnswerText& answer, const StoredText& text, std::size_t start,
                                 std::size_t count) {
  return {.tokens = std::span(answer.tokens).subspan(start, count),
          .start = static_cast<std::int32_t>(start),
          .blocks = answer.blocks,
          .rotary_frequencies = {},
          .logit_rows = static_cast<std::int32_t>(count),
          .cross_blocks = text.blocks,
          .cross_length = text.length};
}

std::vector<float> Seq2SeqBench::run(std::span<const StepSequence> sequences) {
  const ops::Matrix logits = decoder().forward(*stream_, *buffers_, *cache_, sequences);
  std::vector<float> out(static_cast<std::size_t>(logits.rows * logits.cols));
  if (!out.empty()) stream_->download(out.data(), logits.data, out.size() * sizeof(float));
  stream_->wait(stream_->record());
  return out;
}

std::vector<float> Seq2SeqBench::decode(const std::vector<std::int32_t>& tokens, const StoredText& text,
                                        std::size_t chunk) {
  const AnswerText own = answer(tokens);
  if (chunk == 0) chunk = tokens.size();
  std::vector<float> out;
  for (std::size_t start = 0; start < tokens.size(); start += chunk) {
    const StepSequence sequence = piece(own, text, start, std::min(chunk, tokens.size() - start));
    const auto logits = run({&sequence, 1});
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

std::vector<std::int32_t> some_tokens(std::size_t count, std::int32_t seed, std::int32_t vocab) {
  std::vector<std::int32_t> out;
  for (std::size_t i = 0; i < count; ++i)
    out.push_back((static_cast<std::int32_t>(i) * 31 + seed * 17) % vocab);
  return out;
}

}  // namespace peregrine::model
