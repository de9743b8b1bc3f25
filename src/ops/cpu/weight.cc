// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/weight.h"

#include <cstring>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "core/float16.h"

namespace peregrine::ops::cpu {
namespace {

using core::DType;

/// Columns converted at a time: 16 rows of them stay in L1.
constexpr std::int64_t kChunk = 256;
/// Panels packed by one thread at a time: for a source stored column by column, 64 rows are whole cache
/// lines.
constexpr std::int64_t kPanelsPerItem = 4;

std::size_t packed_bytes(std::int64_t rows, std::int64_t cols, DType dtype, WeightUse use) {
  if (use == WeightUse::kLinear) {
    rows = core::round_up<std::int64_t>(rows, kPanelRows);
    cols = core::round_up<std::int64_t>(cols, 2);
  }
  const auto count = core::checked_mul(static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols));
  const auto bytes = count ? core::checked_mul(*count, core::size_of(dtype)) : std::nullopt;
  if (!bytes) core::fail(core::ErrorKind::kOverloaded, "a weight of {} x {} fits no memory", rows, cols);
  return *bytes;
}

float load_float(DType type, const std::byte* p) {
  if (type == DType::kF32) {
    float value;
    std::memcpy(&value, p, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, p, 2);
  return type == DType::kBF16 ? core::to_float(core::BFloat16{bits}) : core::to_float(core::Float16{bits});
}

void store_float(DType type, float value, std::byte* p) {
  if (type == DType::kF32) {
    std::memcpy(p, &value, 4);
    return;
  }
  const std::uint16_t bits =
      type == DType::kBF16 ? core::to_bfloat16(value).bits : core::to_float16(value).bits;
  std::memcpy(p, &bits, 2);
}

/// The rows of several matrices, one after the other.
class Parts {
 public:
  explicit Parts(std::span<const HostMatrix> parts) : parts_(parts) {
    for (const HostMatrix& part : parts_) {
      starts_.push_back(rows_);
      rows_ += part.rows;
    }
  }

  std::int64_t rows() const { return rows_; }

  /// Writes columns [begin, end) of `row` to out, densely, as `type`.
  void read(std::int64_t row, std::int64_t begin, std::int64_t end, DType type, std::byte* out) const {
    std::size_t index = starts_.size() - 1;
    while (starts_[index] > row) --index;
    const HostMatrix& part = parts_[index];
    const auto size = static_cast<std::int64_t>(core::size_of(part.dtype));
    const std::byte* in =
        part.data + ((row - starts_[index]) * part.row_stride + begin * part.col_stride) * size;
    if (part.dtype == type && part.col_stride == 1) {
      std::memcpy(out, in, static_cast<std::size_t>((end - begin) * size));
      return;
    }
    const auto out_size = core::size_of(type);
    for (std::int64_t c = begin; c < end; ++c, in += part.col_stride * size, out += out_size) {
      if (part.dtype == type) {
        std::memcpy(out, in, out_size);
      } else {
        store_float(type, load_float(part.dtype, in), out);
      }
    }
  }

 private:
  std::span<const HostMatrix> parts_;
  std::vector<std::int64_t> starts_;
  std::int64_t rows_ = 0;
};

/// Interleaves elements (or pairs of them) of 16 rows of `chunk`: out[k][row].
template <typename Element>
void interleave(const std::byte* chunk, std::int64_t row_bytes, std::int64_t count, std::byte* out) {
  for (std::int64_t k = 0; k < count; ++k) {
    for (std::int64_t r = 0; r < kPanelRows; ++r) {
      std::memcpy(out + (k * kPanelRows + r) * static_cast<std::int64_t>(sizeof(Element)),
                  chunk + r * row_bytes + k * static_cast<std::int64_t>(sizeof(Element)), sizeof(Element));
    }
  }
}

void pack_panel(const Parts& parts, const CpuWeight& weight, std::int64_t panel) {
  alignas(64) std::byte chunk[kPanelRows * kChunk * 4];
  const DType dtype = weight.dtype();
  const auto size = static_cast<std::int64_t>(core::size_of(dtype));
  const std::int64_t row_bytes = kChunk * size;
  std::byte* out = weight.data() + panel * weight.panel_bytes();
  for (std::int64_t begin = 0; begin < weight.cols(); begin += kChunk) {
    const std::int64_t end = std::min(weight.cols(), begin + kChunk);
    const std::int64_t depth = core::round_up<std::int64_t>(end - begin, 2);
    for (std::int64_t r = 0; r < kPanelRows; ++r) {
      const std::int64_t row = panel * kPanelRows + r;
      std::byte* target = chunk + r * row_bytes;
      const std::int64_t filled = row < weight.rows() ? end - begin : 0;
      if (filled > 0) parts.read(row, begin, end, dtype, target);
      std::memset(target + filled * size, 0, static_cast<std::size_t>((depth - filled) * size));
    }
    std::byte* place = out + begin * kPanelRows * size;
    if (dtype == DType::kF16) {
      interleave<std::uint16_t>(chunk, row_bytes, depth, place);
    } else {
      interleave<std::uint32_t>(chunk, row_bytes, dtype == DType::kBF16 ? depth / 2 : depth, place);
    }
  }
}

void check_parts(std::span<const HostMatrix> parts, DType dtype) {
  using enum core::ErrorKind;
  if (!core::is_weight_float(dtype))
    core::fail(kUnsupported, "weights cannot be stored as {}", core::to_string(dtype));
  if (parts.empty()) core::fail(kInternal, "a weight of no parts");
  for (const HostMatrix& part : parts) {
    if (!core::is_weight_float(part.dtype)) {
      core::fail(kUnsupported, "weights of type {} cannot be packed", core::to_string(part.dtype));
    }
    if (part.cols != parts[0].cols || part.rows < 0 || part.cols < 1) {
      core::fail(kInternal, "a weight's part is {} x {}, the first one has {} columns", part.rows, part.cols,
                 parts[0].cols);
    }
  }
}

}  // namespace

CpuWeight::CpuWeight(std::int64_t rows, std::int64_t cols, DType dtype, WeightUse use)
    : Weight(rows, cols, dtype, use),
      memory_(packed_bytes(rows, cols, dtype, use), Commit::kHugePages, "a weight") {}

std::int64_t CpuWeight::panels() const { return core::ceil_div<std::int64_t>(rows(), kPanelRows); }

std::int64_t CpuWeight::panel_bytes() const {
  return core::round_up<std::int64_t>(cols(), 2) * kPanelRows *
         static_cast<std::int64_t>(core::size_of(dtype()));
}

std::unique_ptr<CpuWeight> pack_weight(Compute& compute, std::span<const HostMatrix> parts, DType dtype,
                                       WeightUse use) {
  check_parts(parts, dtype);
  const Parts source(parts);
  auto weight = std::make_unique<CpuWeight>(source.rows(), parts[0].cols, dtype, use);
  const std::scoped_lock lock(compute.mutex());
  if (use == WeightUse::kRows) {
    const std::int64_t row_bytes = weight->cols() * static_cast<std::int64_t>(core::size_of(dtype));
    constexpr std::int64_t kRowsPerItem = kPanelsPerItem * kPanelRows;
    compute.for_each(core::ceil_div(weight->rows(), kRowsPerItem), true, [&](std::int64_t item, int) {
      const std::int64_t end = std::min(weight->rows(), (item + 1) * kRowsPerItem);
      for (std::int64_t row = item * kRowsPerItem; row < end; ++row) {
        source.read(row, 0, weight->cols(), dtype, weight->data() + row * row_bytes);
      }
    });
    return weight;
  }
  compute.for_each(core::ceil_div(weight->panels(), kPanelsPerItem), true, [&](std::int64_t item, int) {
    const std::int64_t end = std::min(weight->panels(), (item + 1) * kPanelsPerItem);
    for (std::int64_t panel = item * kPanelsPerItem; panel < end; ++panel) pack_panel(source, *weight, panel);
  });
  return weight;
}

void read_row(const CpuWeight& weight, std::int64_t row, float scale, bool accumulate, float* out) {
  const DType dtype = weight.dtype();
  const auto put = [accumulate](float& to, float value) { to = accumulate ? to + value : value; };
  const auto size = static_cast<std::int64_t>(core::size_of(dtype));
  if (weight.use() == WeightUse::kRows) {
    const std::byte* in = weight.data() + row * weight.cols() * size;
    for (std::int64_t c = 0; c < weight.cols(); ++c) put(out[c], scale * load_float(dtype, in + c * size));
    return;
  }
  const std::byte* panel = weight.data() + row / kPanelRows * weight.panel_bytes();
  const std::int64_t lane = row % kPanelRows;
  for (std::int64_t c = 0; c < weight.cols(); ++c) {
    const std::int64_t index =
        dtype == DType::kBF16 ? (c / 2 * kPanelRows + lane) * 2 + c % 2 : c * kPanelRows + lane;
    put(out[c], scale * load_float(dtype, panel + index * size));
  }
}

}  // namespace peregrine::ops::cpu
