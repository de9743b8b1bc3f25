// SPDX-License-Identifier: Apache-2.0
#include "weights/pickle_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/error.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using core::fail;

/// Operations by their names in pickletools.
enum Operation : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kShortBinString = 'U',
  kBinString = 'T',
  kShortBinBytes = 'C',
  kBinBytes = 'B',
  kBinBytes8 = 0x8e,
  kByteArray8 = 0x96,
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kList = 'l',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kDict = 'd',
  kSetItem = 's',
  kSetItems = 'u',
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kBinPut = 'q',
  kLongBinPut = 'r',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kMemoize = 0x94,
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kInst = 'i',
  kReduce = 'R',
  kBuild = 'b',
  kBinPersId = 'Q',
  kProto = 0x80,
  kFrame = 0x95,
};

constexpr std::uint64_t kLastProtocol = 5;

bool is_dictionary(PickleKind kind) { return kind == PickleKind::kDict || kind == PickleKind::kOrderedDict; }

}  // namespace

template <typename... Args>
void PickleMachine::refuse(std::string_view format, const Args&... args) const {
  fail(ErrorKind::kInvalidArgument, "{}: byte {}: {}", where_, operation_,
       fmt::format(fmt::runtime(format), args...));
}

PickleId PickleMachine::run() {
  if (pickle_.size() > kMaxPickle) {
    fail(ErrorKind::kInvalidArgument, "{}: has {} bytes; at most {} are read", where_, pickle_.size(),
         kMaxPickle);
  }
  for (;;) {
    operation_ = at_;
    if (++operations_ > kMaxPickleOperations) {
      refuse("more than {} operations; no checkpoint needs as many", kMaxPickleOperations);
    }
    const auto operation = static_cast<std::uint8_t>(take_number(1));
    if (operation == kStop) break;
    if (!skip(operation) && !push_scalar(operation) && !push_text(operation) && !make_tuple(operation) &&
        !make_container(operation) && !fill_container(operation) && !use_memo(operation) &&
        !use_class(operation)) {
      fail(ErrorKind::kUnsupported, "{}: byte {}: operation {:#04x} is not one that tensors need", where_,
           operation_, operation);
    }
  }
  const PickleId root = pop();
  if (!stack_.empty() || !marks_.empty()) refuse("{} values are left at the end", stack_.size());
  if (at_ != pickle_.size()) refuse("{} bytes follow its end", pickle_.size() - at_);
  return root;
}

bool PickleMachine::skip(std::uint8_t operation) {
  switch (operation) {
    case kProto: {
      const std::uint64_t protocol = take_number(1);
      if (protocol > kLastProtocol) {
        fail(ErrorKind::kUnsupported, "{}: is of pickle protocol {}; at most {} is known", where_, protocol,
             kLastProtocol);
      }
      return true;
    }
    case kFrame: {
      const std::uint64_t size = take_number(8);
      if (size > pickle_.size() - at_) {
        fail(ErrorKind::kDataLoss, "{}: byte {}: a frame of {} bytes, but {} follow: truncated", where_,
             operation_, size, pickle_.size() - at_);
      }
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::push_scalar(std::uint8_t operation) {
  switch (operation) {
    case kNone:
      push_kind(PickleKind::kNone);
      return true;
    case kNewTrue:
    case kNewFalse:
      push(add({.kind = PickleKind::kBool, .integer = operation == kNewTrue ? 1 : 0}));
      return true;
    case kBinInt:
      push_integer(static_cast<std::int32_t>(take_number(4)));
      return true;
    case kBinInt1:
      push_integer(static_cast<std::int64_t>(take_number(1)));
      return true;
    case kBinInt2:
      push_integer(static_cast<std::int64_t>(take_number(2)));
      return true;
    case kLong1:
      push_long(take_number(1));
      return true;
    case kLong4:
      push_long(take_number(4));
      return true;
    case kBinFloat:
      take(8);
      push_kind(PickleKind::kFloat);
      return true;
    default:
      return false;
  }
}

/// Two's complement, little-endian, of as many bytes as the number needs.
void PickleMachine::push_long(std::uint64_t size) {
  const std::string_view bytes = take(size);
  if (size > 8) return push_kind(PickleKind::kLargeInteger);
  const bool negative = size > 0 && (static_cast<std::uint8_t>(bytes.back()) & 0x80) != 0;
  std::uint64_t number = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = bytes.size(); i-- > 0;) number = number << 8 | static_cast<std::uint8_t>(bytes[i]);
  push_integer(static_cast<std::int64_t>(number));
}

bool PickleMachine::push_text(std::uint8_t operation) {
  std::uint64_t size = 0;
  bool text = true;
  switch (operation) {
    case kShortBinBytes:
      text = false;
      [[fallthrough]];
    case kShortBinUnicode:
    case kShortBinString:
      size = take_number(1);
      break;
    case kBinBytes:
      text = false;
      [[fallthrough]];
    case kBinUnicode:
    case kBinString:
      size = take_number(4);
      break;
    case kBinBytes8:
    case kByteArray8:
      text = false;
      [[fallthrough]];
    case kBinUnicode8:
      size = take_number(8);
      break;
    default:
      return false;
  }
  const std::string_view bytes = take(size);
  push(add({.kind = text ? PickleKind::kText : PickleKind::kBytes, .text = bytes}));
  return true;
}

bool PickleMachine::make_tuple(std::uint8_t operation) {
  switch (operation) {
    case kEmptyTuple:
      push_tuple(stack_.size());
      return true;
    case kTuple:
      push_tuple(pop_mark());
      return true;
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      const std::size_t count = operation - kTuple1 + std::size_t{1};
      const std::size_t floor = marks_.empty() ? 0 : marks_.back();
      if (stack_.size() - floor < count) refuse("a tuple of {} from {} values", count, stack_.size() - floor);
      push_tuple(stack_.size() - count);
      return true;
    }
    default:
      return false;
  }
}

void PickleMachine::push_tuple(std::size_t begin) {
  PickleValue tuple{.kind = PickleKind::kTuple};
  tuple.first = static_cast<std::uint32_t>(parts_.size());
  tuple.count = static_cast<std::uint32_t>(stack_.size() - begin);
  // Each part was pushed by an operation of its own, so all tuples together are bounded as operations are.
  parts_.insert(parts_.end(), stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end());
  stack_.resize(begin);
  push(add(tuple));
}

bool PickleMachine::make_container(std::uint8_t operation) {
  switch (operation) {
    case kMark:
      if (marks_.size() == kMaxPickleMarks) refuse("nested deeper than {}", kMaxPickleMarks);
      marks_.push_back(stack_.size());
      return true;
    case kEmptyList:
      push_kind(PickleKind::kList);
      return true;
    case kEmptySet:
      push_kind(PickleKind::kSet);
      return true;
    case kEmptyDict:
      push_kind(PickleKind::kDict);
      return true;
    case kList:
    case kFrozenSet:
      stack_.resize(pop_mark());
      push_kind(operation == kList ? PickleKind::kList : PickleKind::kSet);
      return true;
    case kDict: {
      const std::size_t begin = pop_mark();
      const PickleId dictionary = add({.kind = PickleKind::kDict});
      set_items(dictionary, std::span(stack_).subspan(begin));
      stack_.resize(begin);
      push(dictionary);
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::fill_container(std::uint8_t operation) {
  const bool one = operation == kAppend || operation == kSetItem;
  const bool dictionary = operation == kSetItem || operation == kSetItems;
  if (!one && !dictionary && operation != kAppends && operation != kAddItems) return false;
  std::size_t begin = 0;
  if (one) {
    const std::size_t count = dictionary ? 2 : 1;
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < count) refuse("nothing to put into a container");
    begin = stack_.size() - count;
  } else {
    begin = pop_mark();
  }
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (begin == floor) refuse("no container to put values into");
  const PickleId container = stack_[begin - 1];
  const PickleKind kind = values_[container].kind;
  const bool fits = dictionary ? is_dictionary(kind)
                               : kind == (operation == kAddItems ? PickleKind::kSet : PickleKind::kList);
  if (!fits) refuse("values are put into {}, which is no container for them", to_string(kind));
  if (dictionary) set_items(container, std::span(stack_).subspan(begin));
  stack_.resize(begin);
  return true;
}

void PickleMachine::set_items(PickleId dictionary, std::span<const PickleId> pairs) {
  if (pairs.size() % 2 != 0) refuse("a key without a value");
  values_[dictionary].count += static_cast<std::uint32_t>(pairs.size() / 2);
  for (std::size_t i = 0; i < pairs.size(); i += 2) items_.push_back({dictionary, pairs[i], pairs[i + 1]});
}

bool PickleMachine::use_memo(std::uint8_t operation) {
  switch (operation) {
    case kPop:
      // Python's reader takes a mark away where there is no value above it.
      if (!marks_.empty() && stack_.size() == marks_.back()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case kPopMark:
      stack_.resize(pop_mark());
      return true;
    case kDup:
      push(top());
      return true;
    case kBinPut:
      put(take_number(1));
      return true;
    case kLongBinPut:
      put(take_number(4));
      return true;
    case kMemoize:
      put(memo_count_);
      return true;
    case kBinGet:
      get(take_number(1));
      return true;
    case kLongBinGet:
      get(take_number(4));
      return true;
    default:
      return false;
  }
}

void PickleMachine::put(std::uint64_t key) {
  // Keys count up from 0 in what Python writes, so that a table is enough; a bound keeps it small.
  if (key >= kMaxPickleValues) refuse("memo key {}; the largest read is {}", key, kMaxPickleValues - 1);
  if (key >= memo_.size()) memo_.resize(std::max<std::size_t>(key + 1, memo_.size() * 2));
  if (!memo_[key]) ++memo_count_;
  memo_[key] = top();
}

void PickleMachine::get(std::uint64_t key) {
  if (key >= memo_.size() || !memo_[key]) refuse("memo key {} was never put", key);
  push(*memo_[key]);
}

bool PickleMachine::use_class(std::uint8_t operation) {
  switch (operation) {
    case kGlobal:
    case kInst: {
      const std::string_view module = take_line();
      const std::string_view name = take_line();
      push_class(module, name);
      // No object of a known class is written so; an unknown class has been refused by its name.
      if (operation == kInst) refuse("an object of class {} is built", core::quoted(name));
      return true;
    }
    case kStackGlobal: {
      const PickleValue name = values_[pop()], module = values_[pop()];
      if (name.kind != PickleKind::kText || module.kind != PickleKind::kText) {
        refuse("a class is named by {} and {}", to_string(module.kind), to_string(name.kind));
      }
      push_class(module.text, name.text);
      return true;
    }
    case kReduce:
      reduce();
      return true;
    case kBuild:
      build();
      return true;
    case kBinPersId:
      make_storage();
      return true;
    default:
      return false;
  }
}

void PickleMachine::push_class(std::string_view module, std::string_view name) {
  const PickleClass* known = find_pickle_class(module, name);
  if (known == nullptr) {
    const std::string full = fmt::format("{}.{}", module.substr(0, 100), name.substr(0, 100));
    fail(ErrorKind::kUnsupported,
         "{}: byte {}: refers to {}; only tensors are read, and nothing is run: save the model's state_dict "
         "alone, or as safetensors",
         where_, operation_, core::quoted(full, 200));
  }
  push(add({.kind = PickleKind::kClass, .known = known}));
}

void PickleMachine::reduce() {
  const PickleValue arguments = values_[pop()];
  const PickleValue callee = values_[pop()];
  if (callee.kind != PickleKind::kClass || arguments.kind != PickleKind::kTuple) {
    refuse("{} is called with {}", to_string(callee.kind), to_string(arguments.kind));
  }
  const PickleClass& known = *callee.known;
  switch (known.role) {
    case PickleRole::kOrderedDict:
      if (arguments.count != 0) refuse("an OrderedDict is made from {} arguments", arguments.count);
      return push_kind(PickleKind::kOrderedDict);
    case PickleRole::kRebuildTensor:
    case PickleRole::kRebuildTyped:
      check_tensor(known, parts(arguments));
      return push(add({.kind = PickleKind::kTensor,
                       .known = &known,
                       .first = arguments.first,
                       .count = arguments.count}));
    case PickleRole::kRebuildParameter:
      // (tensor, requires_grad, backward hooks)
      if (arguments.count != 3 || values_[parts(arguments)[0]].kind != PickleKind::kTensor) {
        refuse("a parameter is not made from a tensor and two more arguments");
      }
      return push(parts(arguments)[0]);
    case PickleRole::kStorageType:
    case PickleRole::kDType:
      break;
  }
  refuse("{}.{} is called", known.module, known.name);
}

/// (storage, offset, size, strides, requires_grad, backward hooks[, metadata]), for v3 with the data type
/// before the metadata. Sizes are checked against the storage by who uses the tensor.
void PickleMachine::check_tensor(const PickleClass& function, std::span<const PickleId> arguments) const {
  const std::size_t required = function.role == PickleRole::kRebuildTyped ? 7 : 6;
  if (arguments.size() != required && arguments.size() != required + 1) {
    refuse("{} is called with {} arguments, not {}", function.name, arguments.size(), required);
  }
  const auto kind = [&](std::size_t i) { return values_[arguments[i]].kind; };
  if (kind(0) != PickleKind::kStorage || kind(1) != PickleKind::kInteger || kind(2) != PickleKind::kTuple ||
      kind(3) != PickleKind::kTuple) {
    refuse("{} is called with {}, {}, {} and {}, not with a storage, an offset, sizes and strides",
           function.name, to_string(kind(0)), to_string(kind(1)), to_string(kind(2)), to_string(kind(3)));
  }
  if (required == 7) {
    const PickleValue& dtype = values_[arguments[6]];
    if (dtype.kind != PickleKind::kClass || dtype.known->role != PickleRole::kDType) {
      refuse("{} is called without a data type", function.name);
    }
  }
  // Metadata holds the bits that say 'negate' and 'conjugate when read'.
  if (arguments.size() > required) {
    const PickleValue& metadata = values_[arguments[required]];
    if (metadata.kind != PickleKind::kNone && !(is_dictionary(metadata.kind) && metadata.count == 0)) {
      fail(ErrorKind::kUnsupported,
           "{}: byte {}: a tensor with metadata (such as 'neg': a view to be negated)", where_, operation_);
    }
  }
}

/// State of an OrderedDict: attributes such as the `_metadata` that torch's state_dict() adds (versions of
/// modules), of no use here. Nothing else has state.
void PickleMachine::build() {
  const PickleKind state = values_[pop()].kind;
  const PickleKind object = values_[top()].kind;
  if (object != PickleKind::kOrderedDict || !is_dictionary(state)) {
    refuse("{} is given {} as its state", to_string(object), to_string(state));
  }
}

/// ('storage', type, key, location, number of elements)
void PickleMachine::make_storage() {
  const PickleValue id = values_[pop()];
  bool sound = id.kind == PickleKind::kTuple && id.count == 5;
  if (sound) {
    const auto part = [&](std::size_t i) -> const PickleValue& { return values_[parts(id)[i]]; };
    sound = part(0).kind == PickleKind::kText && part(0).text == "storage" &&
            part(1).kind == PickleKind::kClass && part(1).known->role == PickleRole::kStorageType &&
            part(2).kind == PickleKind::kText && part(3).kind == PickleKind::kText &&
            part(4).kind == PickleKind::kInteger && part(4).integer >= 0;
  }
  if (!sound) refuse("a reference that is not ('storage', type, key, location, size)");
  push(add({.kind = PickleKind::kStorage, .first = id.first, .count = id.count}));
}

void PickleMachine::push(PickleId id) {
  if (stack_.size() == kMaxPickleStack) refuse("more than {} values on the stack", kMaxPickleStack);
  stack_.push_back(id);
}

PickleId PickleMachine::add(PickleValue value) {
  if (values_.size() == kMaxPickleValues) refuse("more than {} values", kMaxPickleValues);
  values_.push_back(value);
  return static_cast<PickleId>(values_.size() - 1);
}

PickleId PickleMachine::top() const {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() == floor) refuse("the stack is empty");
  return stack_.back();
}

PickleId PickleMachine::pop() {
  const PickleId id = top();
  stack_.pop_back();
  return id;
}

std::size_t PickleMachine::pop_mark() {
  if (marks_.empty()) refuse("no mark on the stack");
  const std::size_t height = marks_.back();
  marks_.pop_back();
  return height;
}

std::string_view PickleMachine::take(std::uint64_t size) {
  const std::uint64_t left = pickle_.size() - at_;
  if (size > left) {
    fail(ErrorKind::kDataLoss, "{}: byte {}: needs {} more bytes, but {} follow: truncated", where_,
         operation_, size, left);
  }
  const std::string_view out = pickle_.substr(at_, size);
  at_ += size;
  return out;
}

std::uint64_t PickleMachine::take_number(std::size_t size) {
  const std::string_view bytes = take(size);
  std::uint64_t number = 0;
  for (std::size_t i = size; i-- > 0;) number = number << 8 | static_cast<std::uint8_t>(bytes[i]);
  return number;
}

std::string_view PickleMachine::take_line() {
  const std::size_t end = pickle_.find('\n', at_);
  if (end == std::string_view::npos) {
    fail(ErrorKind::kDataLoss, "{}: byte {}: a name without an end: truncated", where_, operation_);
  }
  const std::string_view line = pickle_.substr(at_, end - at_);
  at_ = end + 1;
  return line;
}

}  // namespace peregrine::weights
