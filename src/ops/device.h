// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "ops/stream.h"
#include "ops/tensor.h"

namespace peregrine::ops {

class Device;

/// A piece of device memory, zeroed when allocated, given back on destruction. Must not outlive its device,
/// nor be destroyed while an operation that uses it is still queued.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, DeviceAddress address, std::size_t size)
      : device_(device), address_(address), size_(size) {}
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  DeviceAddress address() const { return address_; }
  std::size_t size() const { return size_; }
  explicit operator bool() const { return address_ != nullptr; }

 private:
  Device* device_ = nullptr;
  DeviceAddress address_ = nullptr;
  std::size_t size_ = 0;
};

/// What a weight matrix is used for, which decides its layout.
enum class WeightUse : std::uint8_t {
  kLinear,  ///< Matrix products; embed() can read rows out of it as well (tied output layers).
  kRows,    ///< Only embed().
};

/// A weight matrix [rows, cols] in a device's own layout. Owned by whoever packed it; must not outlive its
/// device.
///
/// int8: every row is quantized by itself, alike when weights are packed and when linear() is given rows to
/// multiply by them. With m the row's largest magnitude in float32 (anything that is no number counts as
/// larger than infinity), scale = m / 127 and element x becomes the integer nearest to x * (127 / m), ties to
/// even, which is within [-127, 127] and stands for scale times it. A row whose m is below 2^-120 becomes
/// zeros; one whose m is no finite number has a scale that is none either, so that all its products show it.
class Weight {
 public:
  virtual ~Weight() = default;
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  core::DType dtype() const { return dtype_; }  ///< Stored element type: float32, float16, bfloat16 or int8.
  WeightUse use() const { return use_; }
  /// Device memory it takes, padding and scales included.
  virtual std::size_t bytes() const = 0;

 protected:
  Weight(std::int64_t rows, std::int64_t cols, core::DType dtype, WeightUse use)
      : rows_(rows), cols_(cols), dtype_(dtype), use_(use) {}

 private:
  std::int64_t rows_;
  std::int64_t cols_;
  core::DType dtype_;
  WeightUse use_;
};

/// Columns of the widest int8 weight: as many products of 128 * 127 fit an int32.
inline constexpr std::int64_t kMaxInt8Columns = std::int64_t{1} << 17;

/// Positions in one block of the paged KV cache, on every device.
inline constexpr std::int32_t kBlockTokens = 16;

/// Positions in one segment of the attention's order of arithmetic, on every device; a multiple of
/// kBlockTokens.
inline constexpr std::int32_t kSegmentTokens = 128;

/// How keys and values are stored: float32, bfloat16 (rounded to nearest even) or int8.
///
/// In int8 every key and every value of a position and head is 8-bit integers with one float32 scale: scale =
/// (largest magnitude) / 127, and each element is x / scale (both divisions in float32) rounded to the
/// nearest integer, ties to even: within -127 to 127. It is read as integer * scale, which is at most scale /
/// 2 off (and float32's rounding). Where the scale would be below 2^-126 it is 0 and all elements are 0.
/// Where an element is infinite or no number, the scale is no number: so is all that is computed from this
/// key or value, and nothing else.
struct KvCacheSpec {
  std::int32_t layers = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  core::DType dtype = core::DType::kF32;  ///< float32, bfloat16 or int8.
  std::int32_t blocks = 0;
};

/// Whether every device has KV caches of this type.
constexpr bool is_cache_type(core::DType dtype) {
  return dtype == core::DType::kF32 || dtype == core::DType::kBF16 || dtype == core::DType::kI8;
}

/// Keys and values of `spec.blocks` blocks for all layers, in a device's own layout. Memory is reserved at
/// creation; on the host's memory it is committed as blocks are first written. Must not outlive its device.
class KvCache {
 public:
  virtual ~KvCache() = default;
  const KvCacheSpec& spec() const { return spec_; }

 protected:
  explicit KvCache(const KvCacheSpec& spec) : spec_(spec) {}

 private:
  KvCacheSpec spec_;
};

/// A kind of hardware. Thread-safe except where said; streams of one device may be used by different threads.
class Device {
 public:
  virtual ~Device() = default;

  /// "cpu (avx512_bf16, 2 threads)": for logs and `inspect`.
  virtual std::string description() const = 0;

  /// Allocates zeroed memory, aligned to at least 64 bytes. Throws Error(kOverloaded) with the sizes where
  /// there is none.
  virtual Buffer allocate(std::size_t bytes) = 0;

  virtual std::unique_ptr<Stream> create_stream() = 0;

  /// Packs the rows of `parts`, one part after the other, into a weight of `dtype`: each part's own type
  /// (float32, float16 or bfloat16) is converted, rounding to nearest even, or quantized from its float32
  /// values (see Weight). All parts have the same number of columns. Returns when the parts may be forgotten.
  /// One call at a time. Throws Error(kUnsupported) for other types, and for int8 with more than
  /// kMaxInt8Columns columns.
  virtual std::unique_ptr<Weight> pack(std::span<const HostMatrix> parts, core::DType dtype,
                                       WeightUse use) = 0;

  virtual std::unique_ptr<KvCache> create_kv_cache(const KvCacheSpec& spec) = 0;
  /// Device memory of one block for all layers, in bytes. Ignores spec.blocks.
  virtual std::size_t kv_block_bytes(const KvCacheSpec& spec) const = 0;

  /// Whether matrix products and attention can run with activations of this type.
  virtual bool supports_compute(core::DType dtype) const = 0;

  /// Name of the kernel that linear() uses for this weight and activation type, for every number of rows: for
  /// tests and `inspect`.
  virtual std::string linear_kernel(const Weight& weight, core::DType activation) const = 0;

 private:
  friend class Buffer;
  virtual void free(DeviceAddress address, std::size_t bytes) = 0;
};

struct DeviceOptions {
  int threads = 0;  ///< Compute threads; 0 = all available processors.
  std::string isa;  ///< Forces an instruction set of the cpu device (plain, avx2, avx512, avx512_vnni,
                    ///< avx512_bf16); empty = best.
};

/// Creates the device `name`: "cpu" or "reference". Throws Error(kInvalidArgument) that lists the names, or
/// that names an instruction set which is unknown or which this processor lacks.
std::unique_ptr<Device> create_device(const std::string& name, const DeviceOptions& options);

/// Instruction sets of the cpu device that this processor can run, slowest first.
std::vector<std::string> available_isas();

}  // namespace peregrine::ops
