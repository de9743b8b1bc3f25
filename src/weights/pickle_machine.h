// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace peregrine::weights {

// Bounds of what one pickle may make the machine hold, whatever its bytes claim. A tensor takes about 20
// values and 30 operations in the pickles that torch.save writes.
inline constexpr std::uint64_t kMaxPickle = 64 << 20;
inline constexpr std::size_t kMaxPickleOperations = 16'000'000;
inline constexpr std::size_t kMaxPickleValues = 4'000'000;
inline constexpr std::size_t kMaxPickleStack = 1'000'000;
inline constexpr std::size_t kMaxPickleMarks = 1'000;

/// What a pickle may refer to by name.
enum class PickleRole : std::uint8_t {
  kOrderedDict,       ///< collections.OrderedDict
  kRebuildTensor,     ///< torch._utils._rebuild_tensor_v2
  kRebuildTyped,      ///< torch._utils._rebuild_tensor_v3: the data type is given beside the storage
  kRebuildParameter,  ///< torch._utils._rebuild_parameter
  kStorageType,       ///< torch.FloatStorage, ...
  kDType,             ///< torch.float32, ...
};

struct PickleClass {
  std::string_view module, name;
  PickleRole role = PickleRole::kOrderedDict;
  core::DType dtype = core::DType::kF32;  ///< Of a storage type or data type.
};

/// The known class, or null for every other.
const PickleClass* find_pickle_class(std::string_view module, std::string_view name);

enum class PickleKind : std::uint8_t {
  kNone,
  kBool,
  kInteger,
  kLargeInteger,  ///< Beyond 64 bits: no size of a tensor.
  kFloat,
  kText,
  kBytes,
  kTuple,
  kList,  ///< What it holds is not kept: nothing that tensors need is in a list.
  kSet,   ///< Likewise.
  kDict,
  kOrderedDict,
  kClass,
  kStorage,
  kTensor,
};

/// "a tuple", ..., for messages.
std::string_view to_string(PickleKind kind);

/// One value. It owns nothing: texts lie in the pickle, parts are ids of other values in the machine.
struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  /// kClass: which; kTensor: the function that builds it.
  const PickleClass* known = nullptr;
  /// kTuple: its parts; kStorage and kTensor: those of the tuple they are built from; kDict, kOrderedDict:
  /// `count` alone, the number of keys that were set.
  std::uint32_t first = 0, count = 0;
  std::int64_t integer = 0;    ///< kInteger, kBool.
  std::string_view text = {};  ///< kText.
};

using PickleId = std::uint32_t;

/// Runs a pickle (the format of Python's module of that name) as far as tensors need it: values are plain
/// data, and the only names it may refer to are those of find_pickle_class(), which are known by what they
/// mean and never looked up. Nothing is called, imported or recursed into; memory is bounded by the constants
/// above; time is linear in the bytes. Operations:
/// https://github.com/python/cpython/blob/main/Lib/pickletools.py.
class PickleMachine {
 public:
  /// One key of some dictionary.
  struct Item {
    PickleId dictionary = 0, key = 0, value = 0;
  };

  /// `where` names the pickle in messages. Both texts must outlive the machine.
  PickleMachine(std::string_view pickle, std::string_view where) : pickle_(pickle), where_(where) {}

  /// The value that the pickle stands for. Called once. Throws Error naming `where` and the byte:
  /// kUnsupported for a name or an operation that tensors do not need, kInvalidArgument for what makes no
  /// sense, kDataLoss where the pickle ends early.
  PickleId run();

  const PickleValue& value(PickleId id) const { return values_[id]; }
  /// The parts of a tuple, a storage or a tensor.
  std::span<const PickleId> parts(const PickleValue& value) const {
    return std::span(parts_).subspan(value.first, value.count);
  }
  /// The keys set in all dictionaries, in that order.
  std::span<const Item> items() const { return items_; }

 private:
  bool skip(std::uint8_t operation);
  bool push_scalar(std::uint8_t operation);
  bool push_text(std::uint8_t operation);
  bool make_tuple(std::uint8_t operation);
  bool make_container(std::uint8_t operation);
  bool fill_container(std::uint8_t operation);
  bool use_memo(std::uint8_t operation);
  bool use_class(std::uint8_t operation);

  void push(PickleId id);
  PickleId add(PickleValue value);
  PickleId pop();
  PickleId top() const;
  std::size_t pop_mark();
  void push_kind(PickleKind kind) { push(add({.kind = kind})); }
  void push_integer(std::int64_t number) { push(add({.kind = PickleKind::kInteger, .integer = number})); }
  void push_long(std::uint64_t size);
  void push_tuple(std::size_t begin);
  void set_items(PickleId dictionary, std::span<const PickleId> pairs);

  void push_class(std::string_view module, std::string_view name);
  void reduce();
  void build();
  void make_storage();
  void check_tensor(const PickleClass& function, std::span<const PickleId> arguments) const;

  void put(std::uint64_t key);
  void get(std::uint64_t key);

  std::string_view take(std::uint64_t size);
  std::uint64_t take_number(std::size_t size);
  std::string_view take_line();

  template <typename... Args>
  [[noreturn]] void refuse(std::string_view format, const Args&... args) const;

  std::string_view pickle_;
  std::string_view where_;
  std::size_t at_ = 0;          ///< The next byte.
  std::size_t operation_ = 0;   ///< Where the operation being run begins.
  std::size_t operations_ = 0;  ///< How many have run.
  std::vector<PickleValue> values_;
  std::vector<PickleId> parts_;
  std::vector<Item> items_;
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;             ///< Heights of the stack.
  std::vector<std::optional<PickleId>> memo_;  ///< By key.
  std::size_t memo_count_ = 0;
};

}  // namespace peregrine::weights
