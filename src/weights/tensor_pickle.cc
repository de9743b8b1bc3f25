// SPDX-License-Identifier: Apache-2.0
#include "weights/tensor_pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "weights/pickle_machine.h"
#include "weights/tensor.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using core::fail;

/// Turns the values of a pickle that has run into tensors.
class Extractor {
 public:
  Extractor(const PickleMachine& machine, std::string_view where) : machine_(machine), where_(where) {}

  PickledTensors extract(PickleId root) const {
    const PickleKind kind = machine_.value(root).kind;
    if (kind != PickleKind::kDict && kind != PickleKind::kOrderedDict) {
      fail(ErrorKind::kInvalidArgument, "{}: holds {}, not a dict of tensors by name", where_,
           to_string(kind));
    }
    PickledTensors out;
    std::string_view nested;
    for (const PickleMachine::Item& item : machine_.items()) {
      if (item.dictionary != root) continue;
      const PickleValue& key = machine_.value(item.key);
      const PickleValue& value = machine_.value(item.value);
      if (value.kind == PickleKind::kTensor) {
        out.tensors.push_back(tensor(name(key), value));
        if (out.tensors.size() > kMaxPickledTensors) {
          fail(ErrorKind::kInvalidArgument, "{}: has more than {} tensors", where_, kMaxPickledTensors);
        }
        continue;
      }
      const bool dictionary = value.kind == PickleKind::kDict || value.kind == PickleKind::kOrderedDict;
      if (key.kind == PickleKind::kText) {
        if (dictionary) nested = key.text;
        out.passed_over.push_back(key.text);
      }
    }
    if (out.tensors.empty() && !nested.empty()) {
      fail(ErrorKind::kInvalidArgument,
           "{}: has no tensors at its top, but a dict under {}: save the model's state_dict alone", where_,
           core::quoted(nested));
    }
    if (out.tensors.empty()) fail(ErrorKind::kInvalidArgument, "{}: has no tensors", where_);
    sort(out.tensors);
    return out;
  }

 private:
  std::string_view name(const PickleValue& key) const {
    if (key.kind != PickleKind::kText) {
      fail(ErrorKind::kInvalidArgument, "{}: a tensor's name must be a text, found {}", where_,
           to_string(key.kind));
    }
    if (key.text.size() > kMaxPickledName) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: its name has {} bytes; at most {} are allowed",
           where_, core::quoted(key.text), key.text.size(), kMaxPickledName);
    }
    return key.text;
  }

  PickledTensor tensor(std::string_view name, const PickleValue& value) const {
    const auto arguments = machine_.parts(value);
    const auto storage = machine_.parts(machine_.value(arguments[0]));
    PickledTensor out;
    out.name = name;
    out.storage_dtype = machine_.value(storage[1]).known->dtype;
    out.storage = machine_.value(storage[2]).text;
    out.storage_count = static_cast<std::uint64_t>(machine_.value(storage[4]).integer);
    const bool typed = value.known->role == PickleRole::kRebuildTyped;
    out.dtype = typed ? machine_.value(arguments[6]).known->dtype : out.storage_dtype;
    const std::int64_t offset = machine_.value(arguments[1]).integer;
    if (offset < 0) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: offset {} is negative", where_, core::quoted(name),
           offset);
    }
    out.offset = static_cast<std::uint64_t>(offset);
    out.shape = numbers(name, "sizes", machine_.value(arguments[2]));
    out.strides = numbers(name, "strides", machine_.value(arguments[3]));
    if (out.shape.size() != out.strides.size()) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: {} sizes, but {} strides", where_, core::quoted(name),
           out.shape.size(), out.strides.size());
    }
    return out;
  }

  std::vector<std::int64_t> numbers(std::string_view name, std::string_view what,
                                    const PickleValue& tuple) const {
    if (tuple.count > kMaxTensorRank) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: {} {}; at most {} dimensions are allowed", where_,
           core::quoted(name), tuple.count, what, kMaxTensorRank);
    }
    std::vector<std::int64_t> out;
    out.reserve(tuple.count);
    for (const PickleId id : machine_.parts(tuple)) {
      const PickleValue& part = machine_.value(id);
      if (part.kind != PickleKind::kInteger || part.integer < 0) {
        fail(ErrorKind::kInvalidArgument,
             "{}: tensor {}: its {} must be integers from 0 to 2^63 - 1, found {}", where_,
             core::quoted(name), what,
             part.kind == PickleKind::kInteger ? std::to_string(part.integer)
                                               : std::string(to_string(part.kind)));
      }
      out.push_back(part.integer);
    }
    return out;
  }

  void sort(std::vector<PickledTensor>& tensors) const {
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(tensors.begin(), tensors.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice != tensors.end()) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {} is given twice", where_, core::quoted(twice->name));
    }
  }

  const PickleMachine& machine_;
  std::string_view where_;
};

}  // namespace

PickledTensors read_tensor_pickle(std::string_view pickle, std::string_view where) {
  PickleMachine machine(pickle, where);
  const PickleId root = machine.run();
  return Extractor(machine, where).extract(root);
}

}  // namespace peregrine::weights
