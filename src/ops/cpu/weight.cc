// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/weight.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
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
/// What is added to int8 elements as they are stored.
constexpr std::uint32_t kInt8Offset = 128;

/// A row without more counts as zeros (see ops::Weight): 127 divided by much less is no finite number.
constexpr float kLeastInt8Magnitude = 0x1p-120f;

/// k that a panel holds side by side.
std::int64_t depth_of(DType dtype) { return dtype == DType::kI8 ? 4 : 2; }

/// Bytes of the elements alone; with scales behind them, a multiple of 64.
std::size_t element_bytes(std::int64_t rows, std::int64_t cols, DType dtype, WeightUse use) {
  if (use == WeightUse::kLinear) {
    rows = core::round_up<std::int64_t>(rows, kPanelRows);
    cols = core::round_up<std::int64_t>(cols, depth_of(dtype));
  }
  const auto count = core::checked_mul(static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols));
  const auto bytes = count ? core::checked_mul(*count, core::size_of(dtype)) : std::nullopt;
  // Half of what could be named leaves room for the scales.
  if (!bytes || *bytes > std::numeric_limits<std::size_t>::max() / 2) {
    core::fail(core::ErrorKind::kOverloaded, "a weight of {} x {} fits no memory", rows, cols);
  }
  return dtype == DType::kI8 ? core::round_up<std::size_t>(*bytes, 64) : *bytes;
}

std::size_t packed_bytes(std::int64_t rows, std::int64_t cols, DType dtype, WeightUse use) {
  const std::size_t elements = element_bytes(rows, cols, dtype, use);
  if (dtype != DType::kI8) return elements;
  return elements + core::round_up<std::size_t>(static_cast<std::size_t>(rows), kPanelRows) * sizeof(float);
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

/// Element `index` of a weight's row.
float read_element(const CpuWeight& weight, const std::byte* elements, std::int64_t index) {
  if (weight.dtype() == DType::kI8) {
    return static_cast<float>(std::to_integer<int>(elements[index]) - static_cast<int>(kInt8Offset));
  }
  return load_float(weight.dtype(),
                    elements + index * static_cast<std::int64_t>(core::size_of(weight.dtype())));
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

/// Any float16 without a branch, so that loops become vector instructions: the exponent is moved by a
/// multiplication, which is right for denormals as well, and set where it was the largest.
float widen_f16(std::uint16_t bits) {
  const std::uint32_t magnitude = bits & 0x7FFFu;
  const float moved = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x7C00u ? 0x7F800000u : 0u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(moved) | special |
                              static_cast<std::uint32_t>(bits & 0x8000u) << 16);
}

/// `count` elements of a part's row from `in` on, as float32.
void widen(const HostMatrix& part, const std::byte* in, std::int64_t count, float* out) {
  const auto each = [&](auto element, auto to_float) {
    const std::int64_t step = part.col_stride * static_cast<std::int64_t>(sizeof element);
    for (std::int64_t i = 0; i < count; ++i) {
      // The step of dense rows is known to the compiler, which needs that for vector instructions.
      std::memcpy(&element,
                  in + (part.col_stride == 1 ? i * static_cast<std::int64_t>(sizeof element) : i * step),
                  sizeof element);
      out[i] = to_float(element);
    }
  };
  if (part.dtype == DType::kF32) {
    each(float{}, [](float value) { return value; });
  } else if (part.dtype == DType::kBF16) {
    each(std::uint16_t{}, [](std::uint16_t bits) { return core::to_float(core::BFloat16{bits}); });
  } else {
    each(std::uint16_t{}, widen_f16);
  }
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
    if (type == DType::kF32) {
      widen(part, in, end - begin, reinterpret_cast<float*>(out));
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

/// How a row becomes int8.
struct RowScale {
  float scale = 0;    ///< x is about scale * q.
  float inverse = 0;  ///< q is x times this, rounded.
};

/// |x| compared as bits, in which what is no number is the largest of all, so that it shows in the scale.
RowScale scale_of(const Parts& parts, std::int64_t row, std::int64_t cols) {
  float chunk[kChunk];
  std::int32_t highest = 0;
  for (std::int64_t begin = 0; begin < cols; begin += kChunk) {
    const std::int64_t end = std::min(cols, begin + kChunk);
    parts.read(row, begin, end, DType::kF32, reinterpret_cast<std::byte*>(chunk));
    // Without the sign bit the order of the bits as integers is the same, signed or not.
    for (std::int64_t i = 0; i < end - begin; ++i) {
      highest = std::max(highest, std::bit_cast<std::int32_t>(chunk[i]) & 0x7FFFFFFF);
    }
  }
  const float magnitude = std::bit_cast<float>(highest);
  return {magnitude / 127.0f, magnitude >= kLeastInt8Magnitude ? 127.0f / magnitude : 0.0f};
}

/// Columns [begin, end) of `row`, quantized, plus 128.
void read_int8(const Parts& parts, std::int64_t row, std::int64_t begin, std::int64_t end, float inverse,
               std::byte* out) {
  // Added to a number below 2^22 it leaves the nearest integer, ties to even, in the mantissa's last bits.
  constexpr float kRounder = 12'582'912.0f;  // 1.5 * 2^23
  float chunk[kChunk];
  for (; begin < end; begin += kChunk) {
    const std::int64_t count = std::min(end - begin, kChunk);
    parts.read(row, begin, begin + count, DType::kF32, reinterpret_cast<std::byte*>(chunk));
    for (std::int64_t i = 0; i < count; ++i) {
      // The low byte of the two's complement. (Of what is no number: any byte, the scale shows it.)
      const auto bits = std::bit_cast<std::uint32_t>(chunk[i] * inverse + kRounder);
      out[i] = static_cast<std::byte>(bits + kInt8Offset);
    }
    out += count;
  }
}

/// Interleaves elements (or pairs or fours of them) of 16 rows of `chunk`: out[k][row].
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
  RowScale scales[kPanelRows];
  if (dtype == DType::kI8) {
    for (std::int64_t r = 0; r < kPanelRows; ++r) {
      const std::int64_t row = panel * kPanelRows + r;
      if (row < weight.rows()) scales[r] = scale_of(parts, row, weight.cols());
      weight.scales()[row] = scales[r].scale;
    }
  }
  for (std::int64_t begin = 0; begin < weight.cols(); begin += kChunk) {
    const std::int64_t end = std::min(weight.cols(), begin + kChunk);
    const std::int64_t depth = core::round_up<std::int64_t>(end - begin, depth_of(dtype));
    for (std::int64_t r = 0; r < kPanelRows; ++r) {
      const std::int64_t row = panel * kPanelRows + r;
      std::byte* target = chunk + r * row_bytes;
      const std::int64_t filled = row < weight.rows() ? end - begin : 0;
      if (filled > 0 && dtype == DType::kI8) {
        read_int8(parts, row, begin, end, scales[r].inverse, target);
      } else if (filled > 0) {
        parts.read(row, begin, end, dtype, target);
      }
      // The padding of int8 meets activations of 0, or is in rows that nobody reads: its value is free.
      std::memset(target + filled * size, 0, static_cast<std::size_t>((depth - filled) * size));
    }
    std::byte* place = out + begin * kPanelRows * size;
    if (dtype == DType::kF16) {
      interleave<std::uint16_t>(chunk, row_bytes, depth, place);
    } else {
      interleave<std::uint32_t>(chunk, row_bytes, depth * size / 4, place);
    }
  }
}

void check_parts(std::span<const HostMatrix> parts, DType dtype) {
  using enum core::ErrorKind;
  if (!core::is_weight_float(dtype) && dtype != DType::kI8)
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
  if (dtype == DType::kI8 && parts[0].cols > kMaxInt8Columns) {
    core::fail(kUnsupported,
               "a weight of {} columns cannot be stored as int8: at most {} keep its sums exact",
               parts[0].cols, kMaxInt8Columns);
  }
}

}  // namespace

CpuWeight::CpuWeight(std::int64_t rows, std::int64_t cols, DType dtype, WeightUse use)
    : Weight(rows, cols, dtype, use),
      scales_at_(element_bytes(rows, cols, dtype, use)),
      memory_(packed_bytes(rows, cols, dtype, use), Commit::kHugePages, "a weight") {}

std::int64_t CpuWeight::panels() const { return core::ceil_div<std::int64_t>(rows(), kPanelRows); }

std::int64_t CpuWeight::panel_bytes() const {
  return core::round_up<std::int64_t>(cols(), depth_of(dtype())) * kPanelRows *
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
        std::byte* target = weight->data() + row * row_bytes;
        if (dtype == DType::kI8) {
          const RowScale scale = scale_of(source, row, weight->cols());
          weight->scales()[row] = scale.scale;
          read_int8(source, row, 0, weight->cols(), scale.inverse, target);
        } else {
          source.read(row, 0, weight->cols(), dtype, target);
        }
      }
    });
    return weight;
  }
  // In the ranges in which products read it: a thread finds what it wrote in the memory of its own node.
  const std::int64_t items = core::ceil_div(weight->panels(), kPanelsPerItem);
  compute.for_each_range(items, 1, [&](std::int64_t begin, std::int64_t end, int) {
    const std::int64_t last = std::min(weight->panels(), end * kPanelsPerItem);
    for (std::int64_t panel = begin * kPanelsPerItem; panel < last; ++panel) {
      pack_panel(source, *weight, panel);
    }
  });
  return weight;
}

void read_row(const CpuWeight& weight, std::int64_t row, float scale, bool accumulate, float* out) {
  const DType dtype = weight.dtype();
  const auto put = [accumulate](float& to, float value) { to = accumulate ? to + value : value; };
  const bool quantized = dtype == DType::kI8;
  const float row_scale = quantized ? weight.scales()[row] : 1.0f;
  const auto value_at = [&](const std::byte* elements, std::int64_t index) {
    const float value = read_element(weight, elements, index);
    return scale * (quantized ? value * row_scale : value);
  };
  if (weight.use() == WeightUse::kRows) {
    const std::byte* in =
        weight.data() + row * weight.cols() * static_cast<std::int64_t>(core::size_of(dtype));
    for (std::int64_t c = 0; c < weight.cols(); ++c) put(out[c], value_at(in, c));
    return;
  }
  const std::byte* panel = weight.data() + row / kPanelRows * weight.panel_bytes();
  const std::int64_t lane = row % kPanelRows;
  const std::int64_t depth = dtype == DType::kI8 ? 4 : dtype == DType::kBF16 ? 2 : 1;
  for (std::int64_t c = 0; c < weight.cols(); ++c) {
    put(out[c], value_at(panel, (c / depth * kPanelRows + lane) * depth + c % depth));
  }
}

}  // namespace peregrine::ops::cpu
