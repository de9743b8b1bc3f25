// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/cpu_device.h"

#include <cstring>
#include <new>

#include "core/error.h"
#include "core/processors.h"
#include "ops/cpu/compute.h"
#include "ops/cpu/cpu_stream.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/kv_cache.h"
#include "ops/cpu/operations.h"
#include "ops/cpu/weight.h"

namespace peregrine::ops::cpu {
namespace {

constexpr int kMostThreads = 1024;

int thread_count(int asked) {
  if (asked < 0 || asked > kMostThreads) {
    core::fail(core::ErrorKind::kInvalidArgument, "threads must be 0 (one for each core) to {}, not {}",
               kMostThreads, asked);
  }
  return asked == 0 ? core::default_threads() : asked;
}

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const DeviceOptions& options)
      : compute_(thread_count(options.threads), kernels_for(options.isa)) {}

  std::string description() const override {
    return fmt::format("cpu ({}, {} thread{})", compute_.kernels().name, compute_.threads(),
                       compute_.threads() == 1 ? "" : "s");
  }

  Buffer allocate(std::size_t bytes) override {
    // The owner of the mapping is found again through a header in front of the buffer: no table, no lock.
    auto* region = new Region(bytes + kHeader, Commit::kHugePages, "a buffer");
    std::memcpy(region->data(), &region, sizeof region);
    return {this, region->data() + kHeader, bytes};
  }

  std::unique_ptr<Stream> create_stream() override { return std::make_unique<CpuStream>(compute_); }

  std::unique_ptr<Weight> pack(std::span<const HostMatrix> parts, core::DType dtype, WeightUse use) override {
    // The caller is one of the threads that write the weight first, and so decide in which node it lies.
    const core::Seated seated(compute_.seat());
    return pack_weight(compute_, parts, dtype, use);
  }

  std::unique_ptr<KvCache> create_kv_cache(const KvCacheSpec& spec) override {
    return std::make_unique<CpuKvCache>(spec);
  }

  std::size_t kv_block_bytes(const KvCacheSpec& spec) const override {
    return static_cast<std::size_t>(KvLayout(spec).block_bytes);
  }

  bool supports_compute(core::DType dtype) const override {
    return dtype == core::DType::kF32 || dtype == core::DType::kBF16;
  }

  std::string linear_kernel(const Weight& weight, core::DType activation) const override {
    return linear_kernel_name(compute_.kernels(), number_of(weight.dtype()), number_of(activation));
  }

 private:
  /// Room for the owner in front of a buffer, which keeps its alignment.
  static constexpr std::size_t kHeader = 64;

  void free(DeviceAddress address, std::size_t) override {
    Region* region = nullptr;
    std::memcpy(&region, address - kHeader, sizeof region);
    delete region;
  }

  Compute compute_;
};

}  // namespace

std::unique_ptr<Device> create_cpu_device(const DeviceOptions& options) {
  return std::make_unique<CpuDevice>(options);
}

}  // namespace peregrine::ops::cpu
