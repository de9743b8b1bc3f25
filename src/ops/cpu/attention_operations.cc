// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <tuple>
#include <utility>

#include "core/checked.h"
#include "ops/cpu/kv_cache.h"
#include "ops/cpu/operations.h"

namespace peregrine::ops::cpu {
namespace {

using core::DType;

/// A sequence is cut by segments only where it has so many, and into pieces of at least half as many: 512
/// positions are a microsecond's reading or more.
constexpr std::int64_t kLeastSegments = 8;

/// Query vectors that an item has at least, where there are so many: keys and values come from memory once
/// for all of them, three register tiles of the widest kernels, which compute for longer than that takes.
/// (36, so that Falcon-7B's 71 heads were two items cut by segments rather than four, measured no better.)
constexpr std::int64_t kLeastQueries = 18;

/// States of segments that wait to be merged: as many segments at a time as this holds (but at least
/// kLeastSegments). 8 MiB hold 32,768 positions of Falcon-7B's 71 heads, and stay within a few cores' L2.
constexpr std::int64_t kStateBytes = 8 << 20;

/// Query vectors of which one merging item takes care: the lanes of one exponential.
constexpr std::int64_t kMergeVectors = 16;

const std::int32_t* ints(const Ints& array) { return reinterpret_cast<const std::int32_t*>(array.data); }

/// The cache, once everything fits it.
const CpuKvCache& checked_cache(const AttentionArgs& args) {
  const auto* cache = dynamic_cast<const CpuKvCache*>(args.cache);
  require(cache != nullptr && args.layer >= 0 && args.layer < cache->spec().layers, "attention: no layer {}",
          args.layer);
  const KvCacheSpec& spec = cache->spec();
  const Batch& batch = args.batch;
  const std::int64_t width = std::int64_t{args.heads} * spec.head_dim;
  require(args.heads > 0 && args.heads % spec.kv_heads == 0 && args.queries.cols == width &&
              args.out.cols == width && args.queries.rows >= batch.rows && args.out.rows >= batch.rows,
          "attention: {} columns to {} for {} heads of {} and {} key-value heads", args.queries.cols,
          args.out.cols, args.heads, spec.head_dim, spec.kv_heads);
  require(args.queries.dtype == args.out.dtype && args.queries.dtype != DType::kF16,
          "attention: queries in {}, output in {}", core::to_string(args.queries.dtype),
          core::to_string(args.out.dtype));
  require(!args.alibi_slopes || args.alibi_slopes.size >= args.heads, "attention: {} slopes for {} heads",
          args.alibi_slopes.size, args.heads);
  require(!args.alibi_slopes || !args.distance_bias,
          "attention: alibi_slopes and distance_bias exclude each other");
  require(!args.distance_bias ||
              (args.distance_limit >= 0 &&
               args.distance_bias.size >= args.heads * (2 * std::int64_t{args.distance_limit} + 1)),
          "attention: {} distance biases for {} heads and distances up to {}", args.distance_bias.size,
          args.heads, args.distance_limit);
  require(!args.lengths || args.window <= 0, "attention: lengths exclude a window, here of {}", args.window);
  require(!args.lengths || args.lengths.size >= batch.sequences, "attention: {} lengths for {} sequences",
          args.lengths.size, batch.sequences);
  check_batch(batch, *cache, args.lengths);
  return *cache;
}

AttentionTask attention_task(const AttentionArgs& args, const CpuKvCache& cache) {
  const KvCacheSpec& spec = cache.spec();
  AttentionTask task;
  static_cast<CacheView&>(task) = cache.view(args.layer);
  task.queries = args.queries.data;
  task.out = args.out.data;
  task.query_type = number_of(args.queries.dtype);
  task.query_stride = args.queries.stride;
  task.out_stride = args.out.stride;
  task.head_dim = spec.head_dim;
  task.group = args.heads / spec.kv_heads;
  task.state_stride = core::round_up<std::int64_t>(spec.head_dim, kPanelRows) + kPanelRows;
  task.positions = ints(args.batch.positions);
  task.window = args.window;
  task.scale = args.scale;
  task.soft_cap = args.soft_cap;
  task.slopes = reinterpret_cast<const float*>(args.alibi_slopes.data);
  task.slope_scale = args.alibi_scale;
  task.slopes_in_bfloat16 = args.alibi_in_bfloat16;
  task.distance_bias = reinterpret_cast<const float*>(args.distance_bias.data);
  task.distance_limit = args.distance_limit;
  return task;
}

/// One attention operation: how it is cut into items, and the items of each kind. What is cut where changes
/// no result, and follows from shapes alone.
class Attention {
 public:
  Attention(Compute& compute, Plans& plans, const AttentionArgs& args, const CpuKvCache& cache)
      : compute_(compute),
        plans_(plans),
        args_(args),
        task_(attention_task(args, cache)),
        kv_heads_(cache.spec().kv_heads) {
    cut_queries();
    cut_segments();
    compute.reserve_scratch(compute.kernels().attention_scratch(task_.head_dim));
  }

  void run() {
    for (std::int64_t round = 0;; ++round) {
      const std::int64_t items = number_items(round);
      if (items == 0) return;
      compute_.for_each(items, true, [&](std::int64_t index, int thread) {
        // From the last on: a sequence's later rows see more and take longer, and should not be left for the
        // end.
        compute_.kernels().attention(task_, item_at(items - 1 - index, round), compute_.scratch(thread));
      });
      if (split_vectors_ > 0) merge(round);
    }
  }

 private:
  using Plan = Plans::AttentionPlan;

  /// Positions that a row sees or that come before those it sees.
  std::int64_t visible(std::int64_t sequence, std::int64_t row) const {
    return args_.lengths ? ints(args_.lengths)[sequence] : std::int64_t{task_.positions[row]} + 1;
  }
  /// The segments that rows [first, last] see; those before all windows would change nothing.
  std::pair<std::int64_t, std::int64_t> segments(std::int64_t sequence, std::int64_t first,
                                                 std::int64_t last) const {
    const std::int64_t unseen = task_.window > 0 ? visible(sequence, first) - task_.window : 0;
    return {std::max<std::int64_t>(unseen, 0) / kSegment,
            core::ceil_div<std::int64_t>(visible(sequence, last), kSegment)};
  }

  /// Query vectors per item: enough items for the threads to share evenly, but no fewer than pay.
  void cut_queries() {
    const std::int64_t tile = compute_.kernels().tile_tokens;
    const std::int64_t share = std::int64_t{args_.batch.rows} * args_.heads / (4 * compute_.threads());
    const std::int64_t length =
        std::clamp<std::int64_t>(share / tile * tile, kLeastQueries, kAttentionQueries);
    const std::int32_t* starts = ints(args_.batch.sequence_starts);
    plans_.attention.resize(static_cast<std::size_t>(args_.batch.sequences));
    for (std::int64_t s = 0; s < args_.batch.sequences; ++s) {
      Plan plan;
      plan.first_row = starts[s];
      plan.vectors = (starts[s + 1] - starts[s]) * task_.group;
      plan.chunks = core::ceil_div(plan.vectors, length);
      if (plan.vectors > 0) {
        std::tie(plan.first_segment, plan.end_segment) = segments(s, starts[s], starts[s + 1] - 1);
      }
      plans_.attention[static_cast<std::size_t>(s)] = plan;
    }
  }

  /// Cuts the items that alone would take longer than half of a thread's share.
  void cut_segments() {
    const auto work = [](const Plan& plan) { return plan.vectors * (plan.end_segment - plan.first_segment); };
    std::int64_t total = 0;
    for (const Plan& plan : plans_.attention) total += work(plan) * kv_heads_;
    if (compute_.threads() == 1) return;
    for (Plan& plan : plans_.attention) {
      const std::int64_t count = plan.end_segment - plan.first_segment;
      if (plan.vectors == 0 || count < kLeastSegments) continue;
      plan.parts = core::ceil_div(work(plan) / plan.chunks * 2 * compute_.threads(), total);
      if (plan.parts == 1) continue;
      plan.state_vectors = split_vectors_;
      split_vectors_ += plan.vectors * kv_heads_;
    }
    if (split_vectors_ == 0) return;
    const std::int64_t one = split_vectors_ * task_.state_stride * std::int64_t{sizeof(float)};
    round_segments_ = std::max(kLeastSegments, kStateBytes / one);
    // The running states come first. As a rule all that there will ever be, so that a growing context or
    // batch grows nothing; pages are only taken as they are used.
    const auto bytes = static_cast<std::size_t>(std::max(2 * kStateBytes, one * (1 + round_segments_)));
    if (plans_.states.size() < bytes) plans_.states = Region(bytes, Commit::kHugePages, "attention states");
  }

  /// The segments of a plan in a round.
  std::pair<std::int64_t, std::int64_t> in_round(const Plan& plan, std::int64_t round) const {
    const std::int64_t first = plan.first_segment + round * round_segments_;
    return {first, std::min(first + round_segments_, plan.end_segment)};
  }
  std::int64_t parts_in(const Plan& plan, std::int64_t round) const {
    const auto [first, end] = in_round(plan, round);
    return std::min(plan.parts, core::ceil_div(std::max<std::int64_t>(end - first, 0), kLeastSegments / 2));
  }

  /// Numbers a round's items; all that is not cut is in the first.
  std::int64_t number_items(std::int64_t round) {
    std::int64_t items = 0;
    for (Plan& plan : plans_.attention) {
      plan.first_item = items;
      const std::int64_t parts = plan.parts > 1 ? parts_in(plan, round) : round == 0 ? 1 : 0;
      items += plan.chunks * kv_heads_ * parts;
    }
    return items;
  }
  /// The plan that an item is of.
  const Plan& plan_of(std::int64_t item) const {
    return *(std::upper_bound(plans_.attention.begin(), plans_.attention.end(), item,
                              [](std::int64_t at, const Plan& plan) { return at < plan.first_item; }) -
             1);
  }

  AttentionItem item_at(std::int64_t index, std::int64_t round) const {
    const Plan& plan = plan_of(index);
    const std::int64_t local = index - plan.first_item;
    const std::int64_t chunk = local / kv_heads_ % plan.chunks, part = local / kv_heads_ / plan.chunks;
    AttentionItem item = base_item(plan, local % kv_heads_);
    item.begin = chunk * plan.vectors / plan.chunks;
    item.count = static_cast<int>((chunk + 1) * plan.vectors / plan.chunks - item.begin);
    if (plan.parts == 1) {
      const std::int64_t last = item.begin + item.count - 1;
      std::tie(item.first_segment, item.end_segment) = segments(
          sequence_of(plan), plan.first_row + item.begin / task_.group, plan.first_row + last / task_.group);
      return item;
    }
    const auto [first, end] = in_round(plan, round);
    const std::int64_t parts = parts_in(plan, round);
    item.first_segment = first + part * (end - first) / parts;
    item.end_segment = first + (part + 1) * (end - first) / parts;
    item.states = states_of(plan, item) + (item.first_segment - first) * item.segment_stride;
    return item;
  }

  std::int64_t sequence_of(const Plan& plan) const { return &plan - plans_.attention.data(); }

  AttentionItem base_item(const Plan& plan, std::int64_t kv_head) const {
    const std::int64_t sequence = sequence_of(plan);
    AttentionItem item;
    item.first_row = plan.first_row;
    item.kv_head = kv_head;
    item.block_table = ints(args_.batch.block_tables) + sequence * args_.batch.table_stride;
    if (args_.lengths) item.length = ints(args_.lengths)[sequence];
    item.segment_stride = plan.vectors * task_.state_stride;
    return item;
  }

  float* running() const { return reinterpret_cast<float*>(plans_.states.data()); }
  /// The states of the round's first segment, of the item's key-value head and first vector.
  float* states_of(const Plan& plan, const AttentionItem& item) const {
    const std::int64_t before =
        split_vectors_ + round_segments_ * (plan.state_vectors + item.kv_head * plan.vectors);
    return running() + (before + item.begin) * task_.state_stride;
  }

  /// Merges a round's states into the running ones.
  void merge(std::int64_t round) {
    std::int64_t items = 0;
    for (Plan& plan : plans_.attention) {
      plan.first_item = items;
      if (plan.parts > 1 && parts_in(plan, round) > 0) {
        items += core::ceil_div(plan.vectors, kMergeVectors) * kv_heads_;
      }
    }
    compute_.for_each(items, true, [&](std::int64_t index, int) {
      const Plan& plan = plan_of(index);
      const std::int64_t local = index - plan.first_item;
      AttentionItem item = base_item(plan, local % kv_heads_);
      item.begin = local / kv_heads_ * kMergeVectors;
      item.count = static_cast<int>(std::min(kMergeVectors, plan.vectors - item.begin));
      std::tie(item.first_segment, item.end_segment) = in_round(plan, round);
      item.states = states_of(plan, item);
      float* to =
          running() + (plan.state_vectors + item.kv_head * plan.vectors + item.begin) * task_.state_stride;
      compute_.kernels().merge_states(task_, item, to,
                                      {.first = round == 0, .last = item.end_segment == plan.end_segment});
    });
  }

  Compute& compute_;
  Plans& plans_;
  const AttentionArgs& args_;
  const AttentionTask task_;
  const std::int64_t kv_heads_;
  std::int64_t split_vectors_ = 0;   ///< Of all sequences that are cut, times key-value heads.
  std::int64_t round_segments_ = 0;  ///< Segments of each that are done before they are merged.
};

}  // namespace

void run(Compute& compute, Plans& plans, const AttentionArgs& args) {
  Attention(compute, plans, args, checked_cache(args)).run();
}

}  // namespace peregrine::ops::cpu
