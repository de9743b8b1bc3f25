// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_weights.h"

#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/float16.h"
#include "weights/finite.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;
using weights::StoredTensor;

/// The shape a slot has in the executor: [rows, cols], or [rows] for vectors (cols = 0).
struct SlotShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

SlotShape shape_of(Slot slot, const DecoderConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t qkv = queries + std::int64_t{2} * config.kv_heads * config.head_dim;
  const std::int64_t up = config.intermediate_size * (config.gated_mlp ? 2 : 1);
  switch (slot) {
    case Slot::kTokenEmbedding:
    case Slot::kHead:
      return {config.vocab_size, config.embedding_width()};
    case Slot::kPositionEmbedding:
      return {config.learned.rows, hidden};
    case Slot::kProjectIn:
      return {hidden, config.embedding_width()};
    case Slot::kProjectOut:
      return {config.embedding_width(), hidden};
    case Slot::kQueryNorm:
      return {queries, 0};
    case Slot::kKeyNorm:
      return {std::int64_t{config.kv_heads} * config.head_dim, 0};
    case Slot::kHeadBias:
      return {config.vocab_size, 0};
    case Slot::kQkv:
      return {qkv, hidden};
    case Slot::kQkvBias:
      return {qkv, 0};
    case Slot::kAttentionOut:
      return {hidden, queries};
    case Slot::kMlpUp:
      return {up, hidden};
    case Slot::kMlpUpBias:
      return {up, 0};
    case Slot::kMlpDown:
      return {hidden, config.intermediate_size};
    case Slot::kEmbeddingNormWeight:
    case Slot::kEmbeddingNormBias:
    case Slot::kFinalNormWeight:
    case Slot::kFinalNormBias:
    case Slot::kAttentionAfterNormWeight:
    case Slot::kMlpAfterNormWeight:
    case Slot::kAttentionNormWeight:
    case Slot::kAttentionNormBias:
    case Slot::kMlpNormWeight:
    case Slot::kMlpNormBias:
    case Slot::kAttentionOutBias:
    case Slot::kMlpDownBias:
      return {hidden, 0};
  }
  return {};
}

/// Where a slot's weight goes. `layer` is null for slots outside the layers. Exactly one of the two is set.
struct Target {
  std::unique_ptr<ops::Weight>* matrix = nullptr;
  Vector* vector = nullptr;
};

Target target_of(Slot slot, DecoderWeights& all, LayerWeights* layer) {
  const bool in_layer = slot >= Slot::kAttentionNormWeight;
  if (in_layer != (layer != nullptr)) {
    fail(ErrorKind::kInternal, "slot {} is declared in the wrong place", to_string(slot));
  }
  switch (slot) {
    case Slot::kTokenEmbedding:
      return {&all.embedding, nullptr};
    case Slot::kPositionEmbedding:
      return {&all.positions, nullptr};
    case Slot::kProjectIn:
      return {&all.project_in.weight, nullptr};
    case Slot::kProjectOut:
      return {&all.project_out.weight, nullptr};
    case Slot::kEmbeddingNormWeight:
      return {nullptr, &all.embedding_norm.weight};
    case Slot::kEmbeddingNormBias:
      return {nullptr, &all.embedding_norm.bias};
    case Slot::kFinalNormWeight:
      return {nullptr, &all.final_norm.weight};
    case Slot::kFinalNormBias:
      return {nullptr, &all.final_norm.bias};
    case Slot::kHead:
      return {&all.head.weight, nullptr};
    case Slot::kHeadBias:
      return {nullptr, &all.head.bias};
    case Slot::kAttentionNormWeight:
      return {nullptr, &layer->attention_norm.weight};
    case Slot::kAttentionNormBias:
      return {nullptr, &layer->attention_norm.bias};
    case Slot::kMlpNormWeight:
      return {nullptr, &layer->mlp_norm.weight};
    case Slot::kMlpNormBias:
      return {nullptr, &layer->mlp_norm.bias};
    case Slot::kAttentionAfterNormWeight:
      return {nullptr, &layer->attention_after_norm.weight};
    case Slot::kMlpAfterNormWeight:
      return {nullptr, &layer->mlp_after_norm.weight};
    case Slot::kQueryNorm:
      return {nullptr, &layer->query_norm};
    case Slot::kKeyNorm:
      return {nullptr, &layer->key_norm};
    case Slot::kQkv:
      return {&layer->qkv.weight, nullptr};
    case Slot::kQkvBias:
      return {nullptr, &layer->qkv.bias};
    case Slot::kAttentionOut:
      return {&layer->attention_out.weight, nullptr};
    case Slot::kAttentionOutBias:
      return {nullptr, &layer->attention_out.bias};
    case Slot::kMlpUp:
      return {&layer->mlp_up.weight, nullptr};
    case Slot::kMlpUpBias:
      return {nullptr, &layer->mlp_up.bias};
    case Slot::kMlpDown:
      return {&layer->mlp_down.weight, nullptr};
    case Slot::kMlpDownBias:
      return {nullptr, &layer->mlp_down.bias};
  }
  return {};
}

bool is_norm_weight(Slot slot) {
  switch (slot) {
    case Slot::kEmbeddingNormWeight:
    case Slot::kFinalNormWeight:
    case Slot::kAttentionNormWeight:
    case Slot::kMlpNormWeight:
    case Slot::kAttentionAfterNormWeight:
    case Slot::kMlpAfterNormWeight:
    case Slot::kQueryNorm:
    case Slot::kKeyNorm:
      return true;
    default:
      return false;
  }
}

/// Tables that are only read row by row.
bool is_rows_only(Slot slot, const DecoderConfig& config) {
  return slot == Slot::kPositionEmbedding || (slot == Slot::kTokenEmbedding && !config.tied_head);
}

/// One slot to fill.
struct Job {
  SlotSource source;
  SlotShape shape;
  Target target;
  std::uint64_t bytes = 0;  ///< As stored, for progress.
};

/// The rows of one part as strided views, one for each run (or one for all, where they adjoin).
void append_runs(const StoredTensor& tensor, const Part& part, bool transposed,
                 std::vector<ops::HostMatrix>& out) {
  const std::int64_t width = part.tensor_shape.size() == 2 ? part.tensor_shape[1] : 1;
  const std::int64_t cols = transposed ? part.tensor_shape[0] : width;
  RowRuns runs = part.rows;
  if (runs.step == runs.run) runs = {runs.first, runs.run * runs.count, runs.run * runs.count, 1};
  for (std::int64_t i = 0; i < runs.count; ++i) {
    const std::int64_t row = runs.first + i * runs.step;
    const auto offset = static_cast<std::size_t>(transposed ? row : row * width);
    out.push_back({tensor.data.data() + offset * core::size_of(tensor.dtype), tensor.dtype, runs.run, cols,
                   transposed ? 1 : width, transposed ? width : 1});
  }
}

float element(const std::byte* data, DType dtype) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, data, sizeof value);
      return value;
    }
    case DType::kF16: {
      core::Float16 value;
      std::memcpy(&value, data, sizeof value);
      return core::to_float(value);
    }
    default: {
      core::BFloat16 value;
      std::memcpy(&value, data, sizeof value);
      return core::to_float(value);
    }
  }
}

class Loader {
 public:
  Loader(const DecoderConfig& config, weights::TensorSource& source, ops::Device& device, DType dtype)
      : config_(config), source_(source), device_(device), dtype_(dtype), stream_(device.create_stream()) {}

  /// Adds the slots of one layer (or those outside the layers), checking every tensor.
  void add(std::vector<SlotSource> slots, DecoderWeights& all, LayerWeights* layer) {
    for (auto& slot : slots) {
      Job job;
      job.shape = shape_of(slot.slot, config_);
      job.target = target_of(slot.slot, all, layer);
      job.source = std::move(slot);
      check(job);
      total_ += job.bytes;
      jobs_.push_back(std::move(job));
    }
  }

  Vector upload(std::span<const float> values) {
    Vector out{device_.allocate(values.size_bytes()), static_cast<std::int64_t>(values.size())};
    stream_->upload(out.buffer.address(), values.data(), values.size_bytes());
    stream_->wait(stream_->record());
    return out;
  }

  void run(const LoadProgress& progress) {
    std::uint64_t done = 0;
    if (progress) progress(0, total_);
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      // The disk works on the next slot while this one is packed.
      if (i + 1 < jobs_.size()) {
        for (const auto& part : jobs_[i + 1].source.parts) source_.will_need(part.tensor);
      }
      fill(jobs_[i]);
      done += jobs_[i].bytes;
      if (progress) progress(done, total_);
    }
  }

 private:
  void check(Job& job) {
    const SlotSource& source = job.source;
    std::int64_t rows = 0;
    for (const auto& part : source.parts) {
      const DType stored = source_.check(part.tensor, part.tensor_shape);
      const std::int64_t part_rows = part.rows.run * part.rows.count;
      rows += part_rows;
      job.bytes += static_cast<std::uint64_t>(part_rows) *
                   static_cast<std::uint64_t>(job.shape.cols == 0 ? 1 : job.shape.cols) *
                   core::size_of(stored);
      check_part(job, part);
    }
    if (rows != job.shape.rows) fail_declaration(job);
  }

  /// A family's table must agree with its config; anything else is a defect of the family.
  void check_part(const Job& job, const Part& part) const {
    const bool is_matrix = job.target.matrix != nullptr;
    const std::size_t row_dimension = job.source.transposed ? 1 : 0;
    if (part.tensor_shape.size() != (is_matrix ? 2u : 1u) || (!is_matrix && job.source.transposed))
      fail_declaration(job);
    if (is_matrix && part.tensor_shape[1 - row_dimension] != job.shape.cols) fail_declaration(job);
    const RowRuns& runs = part.rows;
    const std::int64_t end = runs.first + (runs.count - 1) * runs.step + runs.run;
    if (runs.first < 0 || runs.run < 1 || runs.count < 1 || runs.step < runs.run ||
        end > part.tensor_shape[row_dimension]) {
      fail_declaration(job);
    }
  }

  [[noreturn]] void fail_declaration(const Job& job) const {
    fail(ErrorKind::kInternal, "family {}: the slot {} is not declared as its shape [{}, {}] needs",
         config_.family, to_string(job.source.slot), job.shape.rows, job.shape.cols);
  }

  void fill(Job& job) {
    std::vector<const StoredTensor*> tensors;
    std::vector<ops::HostMatrix> runs;
    for (const auto& part : job.source.parts) {
      const StoredTensor& tensor = source_.require(part.tensor, part.tensor_shape);
      if (tensors.empty() || tensors.back() != &tensor) weights::require_finite(tensor);
      tensors.push_back(&tensor);
      append_runs(tensor, part, job.source.transposed, runs);
    }
    if (job.target.matrix != nullptr) {
      const bool rows_only = is_rows_only(job.source.slot, config_);
      *job.target.matrix =
          device_.pack(runs, dtype_, rows_only ? ops::WeightUse::kRows : ops::WeightUse::kLinear);
    } else {
      const float offset = is_norm_weight(job.source.slot) ? config_.norm_weight_offset : 0.0f;
      *job.target.vector = upload_runs(runs, job.shape.rows, offset);
    }
    // Several parts may come from one tensor.
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (i == 0 || tensors[i] != tensors[i - 1]) source_.release(*tensors[i]);
    }
  }

  Vector upload_runs(std::span<const ops::HostMatrix> runs, std::int64_t size, float offset) {
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(size));
    for (const auto& run : runs) {
      const std::size_t step = static_cast<std::size_t>(run.row_stride) * core::size_of(run.dtype);
      for (std::int64_t r = 0; r < run.rows; ++r) {
        values.push_back(offset + element(run.data + static_cast<std::size_t>(r) * step, run.dtype));
      }
    }
    return upload(values);
  }

  const DecoderConfig& config_;
  weights::TensorSource& source_;
  ops::Device& device_;
  DType dtype_;
  std::unique_ptr<ops::Stream> stream_;
  std::vector<Job> jobs_;
  std::uint64_t total_ = 0;
};

std::size_t bytes_of(const std::unique_ptr<ops::Weight>& weight) { return weight ? weight->bytes() : 0; }

std::size_t bytes_of(const Norm& norm) { return norm.weight.buffer.size() + norm.bias.buffer.size(); }

std::size_t bytes_of(const Linear& linear) { return bytes_of(linear.weight) + linear.bias.buffer.size(); }

}  // namespace

std::size_t DecoderWeights::bytes() const {
  std::size_t out = bytes_of(embedding) + bytes_of(positions) + bytes_of(project_in) + bytes_of(project_out) +
                    bytes_of(embedding_norm) + bytes_of(final_norm) + bytes_of(head) +
                    alibi_slopes.buffer.size();
  for (const auto& layer : layers) {
    out += bytes_of(layer.attention_norm) + bytes_of(layer.mlp_norm) + bytes_of(layer.attention_after_norm) +
           bytes_of(layer.mlp_after_norm) + layer.query_norm.buffer.size() + layer.key_norm.buffer.size() +
           bytes_of(layer.qkv) + bytes_of(layer.attention_out) + bytes_of(layer.mlp_up) +
           bytes_of(layer.mlp_down);
  }
  return out;
}

DecoderWeights load_weights(const DecoderConfig& config, const Family& family, weights::TensorSource& source,
                            ops::Device& device, DType dtype, const LoadProgress& progress) {
  DecoderWeights out;
  out.layers.resize(static_cast<std::size_t>(config.layers));
  Loader loader(config, source, device, dtype);
  loader.add(family.model_slots(config), out, nullptr);
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    loader.add(family.layer_slots(config, layer), out, &out.layers[static_cast<std::size_t>(layer)]);
  }
  loader.run(progress);
  if (!config.alibi.slopes.empty()) out.alibi_slopes = loader.upload(config.alibi.slopes);
  return out;
}

}  // namespace peregrine::model
