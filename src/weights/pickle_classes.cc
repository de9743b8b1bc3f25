// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "weights/pickle_machine.h"

namespace peregrine::weights {
namespace {

using core::DType;

constexpr auto kStorage = PickleRole::kStorageType;
constexpr auto kType = PickleRole::kDType;

constexpr PickleClass kClasses[] = {
    {"collections", "OrderedDict", PickleRole::kOrderedDict, {}},
    {"torch._utils", "_rebuild_tensor_v2", PickleRole::kRebuildTensor, {}},
    {"torch._utils", "_rebuild_tensor_v3", PickleRole::kRebuildTyped, {}},
    {"torch._utils", "_rebuild_parameter", PickleRole::kRebuildParameter, {}},
    {"torch", "DoubleStorage", kStorage, DType::kF64},
    {"torch", "FloatStorage", kStorage, DType::kF32},
    {"torch", "HalfStorage", kStorage, DType::kF16},
    {"torch", "BFloat16Storage", kStorage, DType::kBF16},
    {"torch", "LongStorage", kStorage, DType::kI64},
    {"torch", "IntStorage", kStorage, DType::kI32},
    {"torch", "ShortStorage", kStorage, DType::kI16},
    {"torch", "CharStorage", kStorage, DType::kI8},
    {"torch", "ByteStorage", kStorage, DType::kU8},
    {"torch", "BoolStorage", kStorage, DType::kBool},
    // Bytes of whatever type the tensor says; without one, torch reads them as uint8.
    {"torch", "UntypedStorage", kStorage, DType::kU8},
    {"torch.storage", "UntypedStorage", kStorage, DType::kU8},
    {"torch", "float64", kType, DType::kF64},
    {"torch", "float32", kType, DType::kF32},
    {"torch", "float16", kType, DType::kF16},
    {"torch", "bfloat16", kType, DType::kBF16},
    {"torch", "float8_e4m3fn", kType, DType::kF8E4M3},
    {"torch", "float8_e5m2", kType, DType::kF8E5M2},
    {"torch", "int64", kType, DType::kI64},
    {"torch", "int32", kType, DType::kI32},
    {"torch", "int16", kType, DType::kI16},
    {"torch", "int8", kType, DType::kI8},
    {"torch", "uint64", kType, DType::kU64},
    {"torch", "uint32", kType, DType::kU32},
    {"torch", "uint16", kType, DType::kU16},
    {"torch", "uint8", kType, DType::kU8},
    {"torch", "bool", kType, DType::kBool},
};

}  // namespace

const PickleClass* find_pickle_class(std::string_view module, std::string_view name) {
  const auto* found = std::find_if(std::begin(kClasses), std::end(kClasses), [&](const PickleClass& known) {
    return known.module == module && known.name == name;
  });
  return found != std::end(kClasses) ? found : nullptr;
}

std::string_view to_string(PickleKind kind) {
  constexpr std::array<std::string_view, 15> kNames = {"None",
                                                       "a bool",
                                                       "an integer",
                                                       "an integer beyond 64 bits",
                                                       "a float",
                                                       "a text",
                                                       "bytes",
                                                       "a tuple",
                                                       "a list",
                                                       "a set",
                                                       "a dict",
                                                       "an OrderedDict",
                                                       "a class or type",
                                                       "a storage",
                                                       "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

}  // namespace peregrine::weights
