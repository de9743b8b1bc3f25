// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/processors.h"
#include "core/thread_pool.h"
#include "weights/tensor_source.h"

namespace peregrine::weights {

/// Tensors of any name and shape, filled with random numbers: normal with mean 0 and standard deviation 0.02,
/// as models are initialised; weights of norms (vectors named "...weight") have mean 1. The numbers depend on
/// seed, tensor name and position only, not on threads or on the order of calls. A tensor is made when it is
/// required and freed when it is released.
class RandomSource : public TensorSource {
 public:
  /// `dtype` is float32, float16 or bfloat16. Throws Error(kUnsupported) for others.
  RandomSource(std::uint64_t seed, core::DType dtype, int threads = core::default_threads());

  core::DType check(std::string_view name, std::span<const std::int64_t> shape) override;
  const StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) override;
  void will_need(std::string_view name) override;
  void release(const StoredTensor& tensor) override;

 private:
  struct Made {
    StoredTensor tensor;
    std::unique_ptr<std::byte[]> memory;
  };

  void fill(std::byte* out, std::uint64_t elements, std::string_view name, bool around_one);

  std::uint64_t seed_;
  core::DType dtype_;
  std::filesystem::path file_ = "random weights";
  core::ThreadPool pool_;
  std::map<std::string, Made, std::less<>> made_;
};

}  // namespace peregrine::weights
