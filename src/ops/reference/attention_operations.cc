// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "ops/reference/cache_view.h"
#include "ops/reference/operations.h"
#include "ops/reference/storage.h"
#include "ops/reference/views.h"

namespace peregrine::ops::reference {
namespace {

using Part = ReferenceKvCache::Part;

/// Rotates one head, leaving what lies beyond the rotated width.
void rotate(std::vector<float>& head, const std::vector<float>& cosines, const std::vector<float>& sines,
            RotaryStyle style) {
  const std::size_t half = cosines.size();
  for (std::size_t i = 0; i < half; ++i) {
    float& first = style == RotaryStyle::kHalves ? head[i] : head[2 * i];
    float& second = style == RotaryStyle::kHalves ? head[i + half] : head[2 * i + 1];
    const float x = first;
    const float y = second;
    first = x * cosines[i] - y * sines[i];
    second = y * cosines[i] + x * sines[i];
  }
}

/// Normalises one head by its own weights.
void normalize(std::vector<float>& head, std::span<const float> weight, const RotateAndStoreArgs& args) {
  const auto width = static_cast<float>(head.size());
  if (args.head_norm == NormKind::kLayer) {
    const float mean = std::accumulate(head.begin(), head.end(), 0.0f) / width;
    for (float& value : head) value -= mean;
  }
  float squares = 0;
  for (const float value : head) squares += value * value;
  const float divisor = std::sqrt(squares / width + args.head_norm_epsilon);
  for (std::size_t i = 0; i < head.size(); ++i) head[i] = head[i] / divisor * weight[i];
}

/// A softmax over some keys, not yet divided by its sum: sum of exp(score - maximum), and of that times the
/// value.
struct SoftmaxState {
  explicit SoftmaxState(std::size_t width) : values(width, 0.0f) {}

  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0;
  std::vector<float> values;
};

/// Adds the keys of a later segment (Milakov and Gimelshein 2018, algorithm 3, over segments).
void merge(SoftmaxState& total, const SoftmaxState& segment) {
  // A segment without any visible key changes nothing, not even a rounding.
  if (segment.maximum == -std::numeric_limits<float>::infinity() && segment.sum == 0) return;
  const float maximum = std::max(total.maximum, segment.maximum);
  const float keep = std::exp(total.maximum - maximum);
  const float add = std::exp(segment.maximum - maximum);
  total.maximum = maximum;
  total.sum = total.sum * keep + segment.sum * add;
  for (std::size_t i = 0; i < total.values.size(); ++i) {
    total.values[i] = total.values[i] * keep + segment.values[i] * add;
  }
}

/// Attention of one operation: what stays the same for all rows and heads.
class Attention {
 public:
  Attention(const AddressSpace& memory, const AttentionArgs& args)
      : args_(args),
        cache_(ReferenceKvCache::of(args.cache)),
        batch_(memory, args.batch),
        tables_(memory, args.batch, cache_.spec()),
        width_(cache_.spec().head_dim),
        queries_(memory, args.queries, batch_.rows, std::int64_t{args.heads} * width_, "attention queries"),
        keys_(memory, cache_, args.layer, Part::kKeys),
        values_(memory, cache_, args.layer, Part::kValues),
        out_(memory, args.out, batch_.rows, std::int64_t{args.heads} * width_, "attention out") {
    const std::int32_t kv_heads = cache_.spec().kv_heads;
    expect(args.heads > 0 && args.heads % kv_heads == 0, "attention: {} heads share {} key-value heads",
           args.heads, kv_heads);
    expect(args.queries.dtype == core::DType::kF32 || args.queries.dtype == core::DType::kBF16,
           "attention queries: elements of type {}", core::to_string(args.queries.dtype));
    expect(args.out.dtype == args.queries.dtype, "attention: queries of type {}, out of type {}",
           core::to_string(args.queries.dtype), core::to_string(args.out.dtype));
    expect_no_overlap(args.queries, args.out, "attention");
    if (args.alibi_slopes) slopes_ = view(memory, args.alibi_slopes, args.heads, "attention alibi_slopes");
    expect(!args.alibi_slopes || !args.distance_bias,
           "attention: alibi_slopes and distance_bias exclude each other");
    if (args.distance_bias) {
      expect(args.distance_limit >= 0, "attention: a distance_limit of {}", args.distance_limit);
      distance_bias_ = view(memory, args.distance_bias, args.heads * distances(), "attention distance_bias");
    }
    if (args.lengths) {
      expect(args.window <= 0, "attention: lengths exclude a window, here of {}", args.window);
      lengths_ = view(memory, args.lengths, args.batch.sequences, "attention lengths");
      for (const std::int32_t length : lengths_) {
        expect(length >= 1 && length <= std::int64_t{args.batch.table_stride} * kBlockTokens,
               "attention lengths: {} positions in a table of {} blocks", length, args.batch.table_stride);
      }
    }
  }

  void run() const {
    for (std::int32_t row = 0; row < batch_.rows; ++row) {
      for (std::int32_t head = 0; head < args_.heads; ++head) attend(row, head);
    }
  }

 private:
  void attend(std::int32_t row, std::int32_t head) const {
    std::vector<float> query(static_cast<std::size_t>(width_));
    for (std::int32_t i = 0; i < width_; ++i) query[i] = queries_.get(row, std::int64_t{head} * width_ + i);
    const std::int32_t end = args_.lengths ? lengths_[batch_.row_sequence[row]] : batch_.positions[row] + 1;
    const std::int32_t seen = args_.window > 0 ? std::max(0, end - args_.window) : 0;  // the first seen
    SoftmaxState total(query.size());
    for (std::int32_t begin = 0; begin < end; begin += kSegmentTokens) {
      const std::int32_t stop = std::min(begin + kSegmentTokens, end);
      merge(total, segment(row, head, query, std::min(std::max(begin, seen), stop), stop));
    }
    for (std::int32_t i = 0; i < width_; ++i) {
      out_.set(row, std::int64_t{head} * width_ + i, total.values[i] / total.sum);
    }
  }

  SoftmaxState segment(std::int32_t row, std::int32_t head, const std::vector<float>& query,
                       std::int32_t begin, std::int32_t end) const {
    const std::int64_t kv_head = head / (args_.heads / cache_.spec().kv_heads);
    const std::int32_t sequence = batch_.row_sequence[row];
    SoftmaxState state(query.size());
    std::vector<float> scores;
    for (std::int32_t position = begin; position < end; ++position) {
      scores.push_back(score(query, tables_.row(sequence, position), kv_head) + bias(row, head, position));
      state.maximum = std::max(state.maximum, scores.back());
    }
    for (std::int32_t position = begin; position < end; ++position) {
      const float probability = std::exp(scores[position - begin] - state.maximum);
      const float kept = rounded(probability, args_.queries.dtype);
      state.sum += kept;
      const std::int64_t at = tables_.row(sequence, position);
      const float weight = kept * values_.scale(at, kv_head);
      for (std::int32_t i = 0; i < width_; ++i) state.values[i] += weight * values_.element(at, kv_head, i);
    }
    return state;
  }

  float score(const std::vector<float>& query, std::int64_t at, std::int64_t kv_head) const {
    float product = 0;
    for (std::int32_t i = 0; i < width_; ++i) product += query[i] * keys_.element(at, kv_head, i);
    product *= keys_.scale(at, kv_head);
    product *= args_.scale;
    if (args_.soft_cap > 0) product = args_.soft_cap * std::tanh(product / args_.soft_cap);
    return product;
  }

  float bias(std::int32_t row, std::int32_t head, std::int32_t position) const {
    if (!slopes_.empty()) return args_.alibi_scale * alibi(slopes_[head], static_cast<float>(position));
    if (distance_bias_.empty()) return 0.0f;
    const std::int32_t limit = args_.distance_limit;
    const std::int32_t distance = std::clamp(position - batch_.positions[row], -limit, limit);
    return distance_bias_[static_cast<std::size_t>(head * distances() + limit + distance)];
  }

  /// Of how many a bias is known.
  std::int64_t distances() const { return 2 * std::int64_t{args_.distance_limit} + 1; }

  float alibi(float slope, float position) const {
    if (!args_.alibi_in_bfloat16) return slope * position;
    // As transformers' build_alibi_tensor: both factors are bfloat16, and so is their product.
    const auto round = [](float value) { return rounded(value, core::DType::kBF16); };
    return round(round(slope) * round(position));
  }

  const AttentionArgs& args_;
  const ReferenceKvCache& cache_;
  BatchView batch_;
  BlockTables tables_;
  std::int32_t width_;
  MatrixView queries_;
  CachedPart keys_;
  CachedPart values_;
  MatrixView out_;
  std::span<const float> slopes_;
  std::span<const float> distance_bias_;
  std::span<const std::int32_t> lengths_;
};

}  // namespace

void execute(const AddressSpace& memory, const RotaryAnglesArgs& args) {
  const BatchView batch(memory, args.batch);
  const auto frequencies =
      view(memory, args.inverse_frequencies, std::int64_t{args.batch.sequences} * args.half,
           "rotary_angles inverse_frequencies");
  const MatrixView cosines(memory, args.cosines, batch.rows, args.half, "rotary_angles cosines");
  const MatrixView sines(memory, args.sines, batch.rows, args.half, "rotary_angles sines");
  for (std::int32_t row = 0; row < batch.rows; ++row) {
    const auto position = static_cast<float>(batch.positions[row]);
    for (std::int32_t i = 0; i < args.half; ++i) {
      const float angle = position * frequencies[std::size_t(batch.row_sequence[row]) * args.half + i];
      // In double, because nothing bounds the angle and this is the yardstick.
      cosines.set(row, i, static_cast<float>(std::cos(double{angle})) * args.scale);
      sines.set(row, i, static_cast<float>(std::sin(double{angle})) * args.scale);
    }
  }
}

void execute(const AddressSpace& memory, const RotateAndStoreArgs& args) {
  const ReferenceKvCache& cache = ReferenceKvCache::of(args.cache);
  const std::int32_t width = cache.spec().head_dim;
  const std::int32_t kv_heads = cache.spec().kv_heads;
  const std::int64_t half = args.cosines ? args.cosines.cols : 0;
  expect(args.heads >= 0, "rotate_and_store: {} heads", args.heads);
  expect(2 * half <= width, "rotate_and_store: {} rotated elements in a head of {}", 2 * half, width);
  const BatchView batch(memory, args.batch);
  const BlockTables tables(memory, args.batch, cache.spec());
  const MatrixView qkv(memory, args.qkv, batch.rows, std::int64_t{args.heads + 2 * kv_heads} * width,
                       "rotate_and_store qkv");
  const CachedPart keys(memory, cache, args.layer, Part::kKeys);
  const CachedPart values(memory, cache, args.layer, Part::kValues);
  const auto angles = [&](const Matrix& matrix, const char* what) {
    return MatrixView(memory, half > 0 ? matrix : Matrix{}, half > 0 ? batch.rows : 0, half, what);
  };
  const MatrixView cosines = angles(args.cosines, "rotate_and_store cosines");
  const MatrixView sines = angles(args.sines, "rotate_and_store sines");
  expect(
      bool(args.query_norm) == bool(args.key_norm) && (!args.query_norm || args.head_norm != NormKind::kNone),
      "rotate_and_store: queries and keys are normalised both or neither");
  // Queries' weights, then keys'.
  std::vector<float> norms;
  if (args.query_norm) {
    const auto queries = view(memory, args.query_norm, std::int64_t{args.heads} * width, "query_norm");
    const auto own = view(memory, args.key_norm, std::int64_t{kv_heads} * width, "key_norm");
    norms.assign(queries.begin(), queries.end());
    norms.insert(norms.end(), own.begin(), own.end());
  }

  for (std::int32_t row = 0; row < batch.rows; ++row) {
    const std::vector<float> cosine = cosines.row(row);
    const std::vector<float> sine = sines.row(row);
    const std::int64_t place = tables.row(batch.row_sequence[row], batch.positions[row]);
    for (std::int32_t head = 0; head < args.heads + 2 * kv_heads; ++head) {
      const std::int64_t column = std::int64_t{head} * width;
      std::vector<float> elements(static_cast<std::size_t>(width));
      for (std::int32_t i = 0; i < width; ++i) elements[i] = qkv.get(row, column + i);
      const bool is_query = head < args.heads;
      const bool is_key = !is_query && head < args.heads + kv_heads;
      if (args.clip > 0) {
        for (float& value : elements) value = std::clamp(value, -args.clip, args.clip);
      }
      if (!norms.empty() && (is_query || is_key)) {
        normalize(elements, std::span(norms).subspan(static_cast<std::size_t>(column), elements.size()),
                  args);
      }
      if (half > 0 && (is_query || is_key)) rotate(elements, cosine, sine, args.style);
      if (is_query) {
        for (std::int32_t i = 0; i < width; ++i) qkv.set(row, column + i, elements[i]);
      } else if (is_key) {
        keys.set(place, head - args.heads, elements);
      } else {
        values.set(place, head - args.heads - kv_heads, elements);
      }
    }
  }
}

void execute(const AddressSpace& memory, const AttentionArgs& args) { Attention(memory, args).run(); }

void execute(const AddressSpace& memory, const CopyBlocksArgs& args) {
  const ReferenceKvCache& cache = ReferenceKvCache::of(args.cache);
  const auto pairs = view(memory, args.pairs, 2 * std::int64_t{args.count}, "copy_blocks pairs");
  for (const std::int32_t block : pairs) {
    expect(block >= 0 && block < cache.spec().blocks, "copy_blocks: block {} of a cache of {}", block,
           cache.spec().blocks);
  }
  for (std::int32_t layer = 0; layer < cache.spec().layers; ++layer) {
    for (const Part part : {Part::kKeys, Part::kValues}) {
      const CachedPart positions(memory, cache, layer, part);
      for (std::int32_t i = 0; i < args.count; ++i) {
        const std::int64_t from = std::int64_t{pairs[2 * i]} * kBlockTokens;
        const std::int64_t to = std::int64_t{pairs[2 * i + 1]} * kBlockTokens;
        for (std::int32_t token = 0; token < kBlockTokens; ++token) positions.copy(to + token, from + token);
      }
    }
  }
}

}  // namespace peregrine::ops::reference
