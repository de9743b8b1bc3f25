// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/checked.h"
#include "ops/cpu/operations.h"
#include "ops/cpu/weight.h"

namespace peregrine::ops::cpu {
namespace {

/// Groups of rows from which on it pays to widen a block of weights once, in memory, instead of once per
/// group in registers (which costs a sixth more instructions).
constexpr std::int64_t kWidenGroups = 6;
/// Blocks of K: 64 rows of a block, in float32 or as bfloat16 pairs, fill 32 KiB of L1 (48 KiB on today's
/// servers) beside a group's activations. Where 16-bit weights are widened in registers, shorter blocks
/// measure better.
constexpr std::int64_t kFloatBlock = 128, kPairBlock = 256, kHalfBlock = 160, kInt8Block = 256,
                       kShortInt8Block = 128;
/// What a thread takes of a product at once, in bytes of weights: some 20 us where few rows pass by them.
constexpr std::int64_t kGrainBytes = 1 << 18;
/// Rows from which on multiplying takes longer than reading.
constexpr std::int64_t kRowsOfAPass = 16;
/// Elements of input up to which packing them is not worth waking the other threads.
constexpr std::int64_t kSmallInput = 1 << 15;

Packing packing_for(const KernelTable& kernels, Number weight, Number activation) {
  if (weight == Number::kI8) return kernels.dot_int8 ? Packing::kByteQuads : Packing::kWordPairs;
  const bool pairs = kernels.dot_bf16 && weight == Number::kBF16 && activation == Number::kBF16;
  return pairs ? Packing::kBf16Pairs : Packing::kFloats;
}

/// Bytes of one packed activation.
std::int64_t packed_size(Packing packing) {
  switch (packing) {
    case Packing::kFloats:
      return 4;
    case Packing::kBf16Pairs:
    case Packing::kWordPairs:
      return 2;
    case Packing::kByteQuads:
      return 1;
  }
  return 4;
}

/// Groups of rows. Few rows are one group that the weights are streamed past once; many are cut so small that
/// four panels at a time stay in registers beside them.
std::int64_t groups_of(const KernelTable& kernels, std::int64_t rows) {
  if (rows <= kernels.stream_tokens) return 1;
  return std::max<std::int64_t>(core::ceil_div<std::int64_t>(rows, kernels.tile_tokens), 2);
}

/// k that one block has. Measured on an Intel server: with two groups the next block comes
/// from memory as fast as this one is computed, which short blocks spread evenly.
std::int64_t block_of(const LinearPlan& plan, Number weight) {
  if (plan.groups == 1) return plan.k;
  if (weight == Number::kI8) return plan.groups <= 3 ? kShortInt8Block : kInt8Block;
  if (plan.packing == Packing::kBf16Pairs) return kPairBlock;
  return plan.widen || weight == Number::kF32 ? kFloatBlock : kHalfBlock;
}

/// How the product is cut. Depends on the shape alone, and changes no result.
LinearPlan plan_for(const KernelTable& kernels, std::int64_t rows, std::int64_t k, Number weight,
                    Number activation) {
  LinearPlan plan;
  plan.rows = rows;
  plan.packing = packing_for(kernels, weight, activation);
  plan.k = core::round_up<std::int64_t>(k, weight == Number::kI8 ? 4 : 2);
  plan.groups = groups_of(kernels, rows);
  plan.widen = plan.packing == Packing::kFloats && weight != Number::kF32 && plan.groups >= kWidenGroups;
  plan.k_block = block_of(plan, weight);
  return plan;
}

ActivationKind kind_of(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return ActivationKind::kNone;
    case Activation::kGelu:
      return ActivationKind::kGelu;
    case Activation::kGeluTanh:
      return ActivationKind::kGeluTanh;
    case Activation::kSilu:
      return ActivationKind::kSilu;
    case Activation::kRelu:
      return ActivationKind::kRelu;
    case Activation::kTanh:
      return ActivationKind::kTanh;
  }
  return ActivationKind::kNone;
}

const char* short_name(Number number) {
  switch (number) {
    case Number::kF32:
      return "f32";
    case Number::kF16:
      return "f16";
    case Number::kBF16:
      return "bf16";
    case Number::kI8:
      return "int8";
  }
  return "";
}

void check(const LinearArgs& args, const CpuWeight* weight) {
  require(weight != nullptr && weight->use() == WeightUse::kLinear, "linear without a weight packed for it");
  const auto n = weight->rows();
  require(args.in.cols == weight->cols() && args.out.cols == n && args.in.rows == args.out.rows,
          "linear: {} x {} times a weight of {} x {} gives no {} x {}", args.in.rows, args.in.cols, n,
          weight->cols(), args.out.rows, args.out.cols);
  require(args.in.dtype != core::DType::kF16 && args.out.dtype != core::DType::kF16,
          "linear: activations are float32 or bfloat16");
  require(!args.bias || args.bias.size >= n, "linear: a bias of {} for {} columns", args.bias.size, n);
  require(!args.residual || (args.residual.dtype == core::DType::kF32 && args.residual.cols == n &&
                             args.residual.rows >= args.out.rows),
          "linear: the residual must be float32, {} x {}", args.out.rows, n);
}

/// Rows [first, first + rows) of a product, at most kRowBlock.
struct ProductRows {
  const LinearArgs& args;
  std::int64_t first;
  std::int64_t rows;

  std::byte* row_of(const Matrix& matrix) const {
    return matrix.data + first * matrix.stride * static_cast<std::int64_t>(core::size_of(matrix.dtype));
  }
};

PackActivationsTask pack_task(const KernelTable& kernels, const ProductRows& part) {
  const LinearArgs& args = part.args;
  PackActivationsTask pack;
  pack.type = number_of(args.in.dtype);
  pack.plan = plan_for(kernels, part.rows, args.in.cols, number_of(args.weight->dtype()), pack.type);
  pack.in = part.row_of(args.in);
  pack.in_cols = args.in.cols;
  pack.in_stride = args.in.stride;
  return pack;
}

/// But for the packed activations.
LinearTask linear_task(const LinearPlan& plan, const ProductRows& part) {
  const LinearArgs& args = part.args;
  const auto& weight = static_cast<const CpuWeight&>(*args.weight);
  LinearTask task;
  task.plan = plan;
  task.weight = weight.data();
  task.panel_bytes = weight.panel_bytes();
  task.weight_type = number_of(weight.dtype());
  if (task.weight_type == Number::kI8) task.channel_scales = weight.scales();
  task.n = weight.rows();
  task.bias = reinterpret_cast<const float*>(args.bias.data);
  task.activation = kind_of(args.activation);
  task.soft_cap = args.soft_cap;
  if (args.residual) task.residual = reinterpret_cast<const float*>(part.row_of(args.residual));
  task.residual_stride = args.residual.stride;
  task.out = part.row_of(args.out);
  task.out_type = number_of(args.out.dtype);
  task.out_stride = args.out.stride;
  return task;
}

/// Which of the ranges that begin at `firsts` holds `index`; `index` becomes the place in it.
std::size_t part_of(const std::vector<std::int64_t>& firsts, std::int64_t& index) {
  std::size_t part = 0;
  if (firsts.size() > 2) {
    part =
        static_cast<std::size_t>(std::upper_bound(firsts.begin(), firsts.end(), index) - firsts.begin()) - 1;
  }
  index -= firsts[part];
  return part;
}

/// Rows of products to be computed together.
class Wave {
 public:
  Wave(Compute& compute, Plans& plans) : compute_(compute), plans_(plans) { clear(); }

  std::int64_t rows() const { return rows_; }

  void add(const ProductRows& part) {
    const PackActivationsTask pack = pack_task(compute_.kernels(), part);
    const LinearPlan& plan = pack.plan;
    if (plans_.packs.empty() || !packs_alike(plans_.packs.back(), pack)) {
      plans_.packs.push_back(pack);
      plans_.first_group.push_back(plans_.first_group.back() + plan.groups);
      rows_ += part.rows;
    }
    plans_.pack_of.push_back(plans_.packs.size() - 1);
    plans_.tasks.push_back(linear_task(plan, part));
    const auto& weight = static_cast<const CpuWeight&>(*part.args.weight);
    panels_ += weight.panels();
    panel_bytes_ = std::max(panel_bytes_, weight.panel_bytes());
  }

  void run() {
    if (rows_ > 0) {
      pack();
      multiply();
    }
    clear();
  }

 private:
  void clear() {
    plans_.packs.clear();
    plans_.tasks.clear();
    plans_.pack_of.clear();
    plans_.first_group.assign(1, 0);
    plans_.first_strip.assign(1, 0);
    rows_ = panels_ = panel_bytes_ = 0;
  }

  void pack() {
    std::int64_t bytes = 0, elements = 0;
    for (const PackActivationsTask& task : plans_.packs) {
      bytes += packed_bytes(task.plan);
      elements += task.plan.rows * task.plan.k;
    }
    std::byte* packed = compute_.activations(static_cast<std::size_t>(bytes));
    for (PackActivationsTask& task : plans_.packs) {
      task.packed = packed;
      task.quantized = reinterpret_cast<RowQuantization*>(packed + value_bytes(task.plan));
      packed += packed_bytes(task.plan);
    }
    for (std::size_t i = 0; i < plans_.tasks.size(); ++i) {
      const PackActivationsTask& pack = plans_.packs[plans_.pack_of[i]];
      plans_.tasks[i].activations = pack.packed;
      plans_.tasks[i].quantized = pack.quantized;
    }
    compute_.for_each(plans_.first_group.back(), elements > kSmallInput, [&](std::int64_t group, int) {
      const std::size_t part = part_of(plans_.first_group, group);
      compute_.kernels().pack_activations(plans_.packs[part], group, group + 1);
    });
  }

  void multiply() {
    // Strips of 4 panels where that leaves each thread two at least.
    const std::int64_t strip = std::clamp<std::int64_t>(panels_ / (2 * compute_.threads()), 1, kTilePanels);
    for (const LinearTask& task : plans_.tasks) {
      plans_.first_strip.push_back(plans_.first_strip.back() + core::ceil_div(panels_of(task), strip));
    }
    // A pass over a strip takes as long as reading it or, beyond some rows, as multiplying it.
    const std::int64_t strip_work = strip * panel_bytes_ * core::ceil_div(rows_, kRowsOfAPass);
    const std::int64_t grain = std::max<std::int64_t>(kGrainBytes / std::max<std::int64_t>(strip_work, 1), 1);
    compute_.for_each_range(plans_.first_strip.back(), grain,
                            [&](std::int64_t begin, std::int64_t end, int thread) {
                              for (; begin < end; ++begin) multiply_strip(begin, strip, thread);
                            });
  }

  void multiply_strip(std::int64_t item, std::int64_t strip, int thread) const {
    const LinearTask& task = plans_.tasks[part_of(plans_.first_strip, item)];
    const auto count = static_cast<int>(std::min(strip, panels_of(task) - item * strip));
    compute_.kernels().linear(task, item * strip, count, compute_.scratch(thread));
  }

  /// Whether `b` packs the same rows in the same way as `a`.
  static bool packs_alike(const PackActivationsTask& a, const PackActivationsTask& b) {
    return a.in == b.in && a.type == b.type && a.in_stride == b.in_stride && a.in_cols == b.in_cols &&
           a.plan.rows == b.plan.rows && a.plan.k == b.plan.k && a.plan.groups == b.plan.groups &&
           a.plan.k_block == b.plan.k_block && a.plan.packing == b.plan.packing;
  }

  static std::int64_t value_bytes(const LinearPlan& plan) {
    return core::round_up<std::int64_t>(plan.rows * plan.k * packed_size(plan.packing), 64);
  }
  /// With what the rows were quantized by.
  static std::int64_t packed_bytes(const LinearPlan& plan) {
    const auto quantized = plan.rows * static_cast<std::int64_t>(sizeof(RowQuantization));
    return value_bytes(plan) + core::round_up<std::int64_t>(quantized, 64);
  }
  static std::int64_t panels_of(const LinearTask& task) {
    return core::ceil_div<std::int64_t>(task.n, kPanelRows);
  }

  Compute& compute_;
  Plans& plans_;
  std::int64_t rows_ = 0;
  std::int64_t panels_ = 0;
  std::int64_t panel_bytes_ = 0;  ///< Of the largest.
};

}  // namespace

std::string linear_kernel_name(const KernelTable& kernels, Number weight, Number activation) {
  const Packing packing = packing_for(kernels, weight, activation);
  const bool int8 = weight == Number::kI8;
  const char* arithmetic = kernels.arithmetic;
  if (int8) arithmetic = "mul+add";
  if (packing == Packing::kBf16Pairs || packing == Packing::kByteQuads) arithmetic = "dot";
  return fmt::format("linear {}*{} {} panel{} tile{}x{} {}", short_name(weight),
                     int8 ? "int8" : short_name(activation), kernels.name, kPanelRows,
                     kTilePanels * kPanelRows, kernels.tile_tokens, arithmetic);
}

void run_products(Compute& compute, Plans& plans) {
  for (const LinearArgs& args : plans.products) check(args, dynamic_cast<const CpuWeight*>(args.weight));
  Wave wave(compute, plans);
  for (const LinearArgs& args : plans.products) {
    // Blocks of rows of about equal size: each reads the weights once more, which 256 rows and more make up
    // for.
    const std::int64_t blocks = core::ceil_div<std::int64_t>(args.in.rows, kRowBlock);
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t first = args.in.rows * i / blocks;
      const std::int64_t rows = args.in.rows * (i + 1) / blocks - first;
      if (wave.rows() + rows > kRowBlock) wave.run();
      wave.add({args, first, rows});
    }
  }
  wave.run();
}

void run(Compute& compute, Plans& plans, const LinearArgs& args) {
  plans.products.assign(1, args);
  run_products(compute, plans);
}

void run(Compute& compute, Plans& plans, const LinearPairArgs& args) {
  plans.products.assign({args.first, args.second});
  run_products(compute, plans);
}

GatedTask gated_task(const GatedActivationArgs& args) {
  GatedTask task;
  task.activation = kind_of(args.activation);
  task.in = args.in.data;
  task.in_type = number_of(args.in.dtype);
  task.in_stride = args.in.stride;
  task.out = args.out.data;
  task.out_type = number_of(args.out.dtype);
  task.out_stride = args.out.stride;
  task.n = args.out.cols;
  return task;
}

void run(Compute& compute, const GatedActivationArgs& args) {
  require(args.in.cols == 2 * args.out.cols && args.in.rows >= args.out.rows,
          "gated activation: {} x {} from {} x {}", args.out.rows, args.out.cols, args.in.rows, args.in.cols);
  const GatedTask task = gated_task(args);
  constexpr std::int64_t kColumns = 2048;  // about a microsecond of work, and a multiple of 16
  const std::int64_t pieces = core::ceil_div(task.n, kColumns);
  compute.for_each(args.out.rows * pieces, args.out.rows * task.n > 2 * kColumns,
                   [&](std::int64_t item, int) {
                     const std::int64_t begin = item % pieces * kColumns;
                     compute.kernels().gated(task, item / pieces, begin, std::min(task.n, begin + kColumns));
                   });
}

}  // namespace peregrine::ops::cpu
