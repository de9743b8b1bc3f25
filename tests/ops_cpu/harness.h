// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/float16.h"
#include "ops/device.h"

namespace peregrine::ops::cpu::test {

/// 2^-24: half an ulp of float32 relative to 1.
inline constexpr double kHalfUlp = 5.9604644775390625e-8;

/// A matrix on the host, with its values as they are after rounding to the stored type.
struct Values {
  std::int64_t rows = 0, cols = 0;
  core::DType type = core::DType::kF32;
  std::vector<std::byte> bytes;
  std::vector<float> floats;

  float at(std::int64_t r, std::int64_t c) const { return floats[static_cast<std::size_t>(r * cols + c)]; }
  HostMatrix host() const { return {bytes.data(), type, rows, cols, cols}; }
};

/// `floats` rounded to `type`.
Values values_of(std::int64_t rows, std::int64_t cols, core::DType type, std::vector<float> floats);
/// Normally distributed, rounded to `type`.
Values random_values(std::int64_t rows, std::int64_t cols, core::DType type, std::uint32_t seed,
                     float scale = 1.0f);
/// Reads matrices back out of stored bytes.
std::vector<float> widen(core::DType type, const std::vector<std::byte>& bytes);

/// A cpu device with one stream, and short ways to and from it.
class Harness {
 public:
  explicit Harness(const std::string& isa = "", int threads = 2)
      : device(create_device("cpu", {.threads = threads, .isa = isa})), stream(device->create_stream()) {}
  ~Harness() { stream.reset(); }

  void finish() { stream->wait(stream->record()); }

  /// Uploads; the buffer lives as long as the harness.
  Matrix put(const Values& values);
  Matrix make(std::int64_t rows, std::int64_t cols, core::DType type);
  Floats put(const std::vector<float>& values);
  Ints put(const std::vector<std::int32_t>& values);
  /// Downloads a dense matrix's bytes.
  std::vector<std::byte> bytes_of(const Matrix& matrix);
  std::vector<float> get(const Matrix& matrix) { return widen(matrix.dtype, bytes_of(matrix)); }
  std::unique_ptr<Weight> pack(const Values& values, WeightUse use = WeightUse::kLinear) {
    const HostMatrix host = values.host();
    return device->pack({&host, 1}, values.type, use);
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<Stream> stream;

 private:
  DeviceAddress upload(const void* data, std::size_t bytes);
  std::vector<Buffer> buffers_;
};

}  // namespace peregrine::ops::cpu::test
