// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "core/checked.h"
#include "core/float16.h"
#include "ops/cpu/kv_cache.h"
#include "ops/cpu/operations.h"
#include "ops/cpu/weight.h"

namespace peregrine::ops::cpu {
namespace {

using core::DType;

/// Elements of work from which on waking the other threads pays.
constexpr std::int64_t kWorthThreads = 1 << 14;

const std::int32_t* ints(const Ints& array) { return reinterpret_cast<const std::int32_t*>(array.data); }
const float* floats(const Floats& array) { return reinterpret_cast<const float*>(array.data); }

float* float_row(const Matrix& matrix, std::int64_t row) {
  return reinterpret_cast<float*>(matrix.data) + row * matrix.stride;
}

/// A token id, or the one last written to a slot. -1 where the slot does not exist.
std::int64_t resolve(std::int32_t id, const Ints& slots) {
  if (id >= 0) return id;
  const std::int64_t slot = ~id;
  return slot < slots.size ? ints(slots)[slot] : -1;
}

/// NormKind::kNone.
void copy_row(const NormArgs& args, std::int64_t row) {
  const float* in = float_row(args.in, args.row_index ? ints(args.row_index)[row] : row);
  const auto width = static_cast<std::size_t>(args.out.cols);
  if (args.out.dtype == DType::kF32) {
    std::memmove(float_row(args.out, row), in, width * sizeof(float));
    return;
  }
  auto* out = reinterpret_cast<core::BFloat16*>(args.out.data) + row * args.out.stride;
  for (std::size_t i = 0; i < width; ++i) out[i] = core::to_bfloat16(in[i]);
}

}  // namespace

void run(Compute& compute, const EmbedArgs& args) {
  const auto* table = dynamic_cast<const CpuWeight*>(args.table);
  require(table != nullptr, "embed without a table");
  require(
      args.out.dtype == DType::kF32 && args.out.cols == table->cols() && args.token_ids.size >= args.out.rows,
      "embed: {} ids from a table {} wide to a {} x {} matrix", args.token_ids.size, table->cols(),
      args.out.rows, args.out.cols);
  compute.for_each(args.out.rows, args.out.rows * args.out.cols > kWorthThreads, [&](std::int64_t row, int) {
    const std::int64_t token = resolve(ints(args.token_ids)[row], args.slot_tokens);
    const std::int64_t id = token < 0 ? token : token + args.offset;
    float* out = float_row(args.out, row);
    if (id >= 0 && id < table->rows()) {
      read_row(*table, id, args.scale, args.accumulate, out);
    } else if (!args.accumulate) {
      std::memset(out, 0, sizeof(float) * static_cast<std::size_t>(args.out.cols));
    }
  });
}

void run(Compute& compute, const NormArgs& args) {
  const std::int64_t width = args.out.cols;
  const bool copies = args.kind == NormKind::kNone;
  require(args.in.dtype == DType::kF32 && args.in.cols == width && (copies || args.weight.size >= width) &&
              (!args.bias || args.bias.size >= width),
          "norm: a row of {} with {} weights to {} columns", args.in.cols, args.weight.size, width);
  require(args.row_index ? args.row_index.size >= args.out.rows : args.in.rows >= args.out.rows,
          "norm: {} rows from {}", args.out.rows, args.row_index ? args.row_index.size : args.in.rows);
  for (std::int64_t row = 0; args.row_index && row < args.out.rows; ++row) {
    const std::int32_t source = ints(args.row_index)[row];
    require(source >= 0 && source < args.in.rows, "norm: row {} of {}", source, args.in.rows);
  }
  require(!args.residual || (args.residual.dtype == DType::kF32 && args.residual.cols == width &&
                             args.residual.rows >= args.out.rows),
          "norm: the residual must be float32, {} x {}", args.out.rows, width);
  if (copies) {
    compute.for_each(args.out.rows, args.out.rows * width > kWorthThreads,
                     [&](std::int64_t row, int) { copy_row(args, row); });
    return;
  }
  NormTask task;
  task.rms = args.kind == NormKind::kRms;
  task.epsilon = args.epsilon;
  task.in = reinterpret_cast<const float*>(args.in.data);
  task.in_stride = args.in.stride;
  task.in_rows = args.in.rows;
  task.row_index = ints(args.row_index);
  task.weight = floats(args.weight);
  task.bias = floats(args.bias);
  task.residual = reinterpret_cast<const float*>(args.residual.data);
  task.residual_stride = args.residual.stride;
  task.width = width;
  task.out = args.out.data;
  task.out_type = number_of(args.out.dtype);
  task.out_stride = args.out.stride;
  compute.for_each(args.out.rows, args.out.rows * width > kWorthThreads,
                   [&](std::int64_t row, int) { compute.kernels().norm(task, row); });
}

void run(Compute&, const CopyBlocksArgs& args) {
  auto* cache = dynamic_cast<CpuKvCache*>(args.cache);
  require(cache != nullptr && args.count >= 0 && args.pairs.size >= 2 * std::int64_t{args.count},
          "copy blocks: {} pairs of {} numbers", args.count, args.pairs.size);
  for (std::int64_t i = 0; i < 2 * std::int64_t{args.count}; ++i) {
    const std::int32_t block = ints(args.pairs)[i];
    require(block >= 0 && block < cache->spec().blocks, "copy blocks: block {} of {}", block,
            cache->spec().blocks);
  }
  // In order and on one thread: a pair may read what an earlier one wrote.
  for (std::int64_t i = 0; i < args.count; ++i) {
    const std::int32_t from = ints(args.pairs)[2 * i], to = ints(args.pairs)[2 * i + 1];
    if (from != to) {
      std::memcpy(cache->block(to), cache->block(from),
                  static_cast<std::size_t>(cache->layout().block_bytes));
    }
  }
}

}  // namespace peregrine::ops::cpu
