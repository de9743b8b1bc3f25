// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace peregrine::weights {

/// More than any model has in one file; a bound on memory.
inline constexpr std::size_t kMaxPickledTensors = 200'000;
inline constexpr std::size_t kMaxPickledName = 1'024;

/// One tensor of a pickled state_dict, as the pickle describes it: not yet checked against its storage. The
/// texts lie in the pickle.
struct PickledTensor {
  std::string_view name;
  core::DType dtype = core::DType::kF32;
  std::vector<std::int64_t> shape;    ///< At most kMaxTensorRank sizes, none negative.
  std::vector<std::int64_t> strides;  ///< In elements, as many as sizes, none negative.
  std::uint64_t offset = 0;           ///< Of the first element in the storage, in elements.

  std::string_view storage;                       ///< The storage's key.
  core::DType storage_dtype = core::DType::kF32;  ///< Another than `dtype` only for untyped storages.
  std::uint64_t storage_count = 0;                ///< Elements of storage_dtype.
};

struct PickledTensors {
  std::vector<PickledTensor> tensors;         ///< Sorted by name, each name once.
  std::vector<std::string_view> passed_over;  ///< Keys whose values are no tensors.
};

/// Reads data.pkl of a file that torch.save wrote: a dict or OrderedDict of tensors by name. Other values
/// beside the tensors are passed over. Throws Error naming `where` and the place: see PickleMachine::run;
/// kInvalidArgument for what is no such dictionary, or a tensor of negative sizes.
PickledTensors read_tensor_pickle(std::string_view pickle, std::string_view where);

}  // namespace peregrine::weights
