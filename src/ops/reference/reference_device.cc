// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/reference_device.h"

#include <utility>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "ops/reference/address_space.h"
#include "ops/reference/reference_stream.h"
#include "ops/reference/storage.h"
#include "ops/reference/views.h"

namespace peregrine::ops::reference {
namespace {

void check_parts(std::span<const HostMatrix> parts, core::DType dtype) {
  if (parts.empty()) core::fail(core::ErrorKind::kInvalidArgument, "a weight needs at least one part");
  if (!core::is_weight_float(dtype) && dtype != core::DType::kI8) {
    core::fail(core::ErrorKind::kUnsupported,
               "weights cannot be packed as {}; they can as float32, float16, bfloat16 and int8",
               core::to_string(dtype));
  }
  if (dtype == core::DType::kI8 && parts[0].cols > kMaxInt8Columns) {
    core::fail(core::ErrorKind::kUnsupported,
               "a weight of {} columns cannot be stored as int8: at most {} keep its sums exact",
               parts[0].cols, kMaxInt8Columns);
  }
  for (const HostMatrix& part : parts) {
    if (!core::is_weight_float(part.dtype)) {
      core::fail(core::ErrorKind::kUnsupported,
                 "weights of type {} cannot be packed; float32, float16 and bfloat16 can",
                 core::to_string(part.dtype));
    }
    if (part.cols != parts[0].cols || part.cols < 0 || part.rows < 0) {
      core::fail(core::ErrorKind::kInvalidArgument,
                 "a part [{}, {}] cannot be packed below one of {} columns", part.rows, part.cols,
                 parts[0].cols);
    }
  }
}

class ReferenceDevice final : public Device {
 public:
  std::string description() const override { return "reference (1 thread)"; }

  Buffer allocate(std::size_t bytes) override { return Buffer(this, memory_.allocate(bytes), bytes); }

  std::unique_ptr<Stream> create_stream() override { return std::make_unique<ReferenceStream>(memory_); }

  std::unique_ptr<Weight> pack(std::span<const HostMatrix> parts, core::DType dtype, WeightUse use) override {
    check_parts(parts, dtype);
    std::int64_t rows = 0;
    for (const HostMatrix& part : parts) rows += part.rows;
    const std::int64_t cols = parts[0].cols;
    auto weight = std::make_unique<ReferenceWeight>(rows, cols, dtype, use,
                                                    allocate(ReferenceWeight::bytes_of(rows, cols, dtype)));
    std::vector<float> values(static_cast<std::size_t>(cols));
    std::int64_t at = 0;
    for (const HostMatrix& part : parts) {
      for (std::int64_t row = 0; row < part.rows; ++row) {
        for (std::int64_t col = 0; col < cols; ++col) {
          const std::int64_t element = row * part.row_stride + col * part.col_stride;
          values[static_cast<std::size_t>(col)] = load(part.data, part.dtype, element);
        }
        weight->set_row(memory_, at++, values);
      }
    }
    return weight;
  }

  std::unique_ptr<KvCache> create_kv_cache(const KvCacheSpec& spec) override {
    const auto bytes = core::checked_mul(kv_block_bytes(spec), static_cast<std::uint64_t>(spec.blocks));
    if (spec.blocks < 0 || !bytes) {
      core::fail(core::ErrorKind::kInvalidArgument, "a cache of {} blocks cannot be made", spec.blocks);
    }
    return std::make_unique<ReferenceKvCache>(spec, allocate(*bytes));
  }

  std::size_t kv_block_bytes(const KvCacheSpec& spec) const override {
    if (spec.layers <= 0 || spec.kv_heads <= 0 || spec.head_dim <= 0) {
      core::fail(core::ErrorKind::kInvalidArgument,
                 "a cache needs at least one layer, head and element; given are {}, {} and {}", spec.layers,
                 spec.kv_heads, spec.head_dim);
    }
    if (!is_cache_type(spec.dtype)) {
      core::fail(core::ErrorKind::kUnsupported, "a cache holds float32, bfloat16 or int8, not {}",
                 core::to_string(spec.dtype));
    }
    const auto heads =
        static_cast<std::size_t>(spec.layers) * 2 * kBlockTokens * static_cast<std::size_t>(spec.kv_heads);
    const std::size_t scale = spec.dtype == core::DType::kI8 ? sizeof(float) : 0;
    return heads * (static_cast<std::size_t>(spec.head_dim) * core::size_of(spec.dtype) + scale);
  }

  bool supports_compute(core::DType dtype) const override {
    return dtype == core::DType::kF32 || dtype == core::DType::kBF16;
  }

  std::string linear_kernel(const Weight&, core::DType) const override { return "reference"; }

 private:
  void free(DeviceAddress address, std::size_t) override { memory_.free(address); }

  AddressSpace memory_;
};

}  // namespace

std::unique_ptr<Device> create_reference_device(const DeviceOptions& options) {
  if (!options.isa.empty()) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "the reference device has no instruction sets to choose from; {} is one of the cpu device",
               core::quoted(options.isa));
  }
  if (options.threads < 0) {
    core::fail(core::ErrorKind::kInvalidArgument, "threads must be at least 0, given {}", options.threads);
  }
  return std::make_unique<ReferenceDevice>();
}

}  // namespace peregrine::ops::reference
