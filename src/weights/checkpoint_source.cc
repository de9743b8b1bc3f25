// SPDX-License-Identifier: Apache-2.0
#include "weights/checkpoint_source.h"

#include <utility>

#include "core/error.h"

namespace peregrine::weights {

CheckpointSource::CheckpointSource(const Checkpoint& checkpoint, std::string optional_prefix,
                                   std::vector<OtherName> other_names)
    : checkpoint_(checkpoint),
      optional_prefix_(std::move(optional_prefix)),
      other_names_(std::move(other_names)) {}

const StoredTensor* CheckpointSource::find(std::string_view name) const {
  if (const StoredTensor* tensor = find_exactly(name)) return tensor;
  // The first BERTs were read from TensorFlow, with its names for the parameters of norms.
  for (const auto& [now, then] :
       {OtherName{"LayerNorm.weight", "LayerNorm.gamma"}, OtherName{"LayerNorm.bias", "LayerNorm.beta"}}) {
    if (!name.ends_with(now)) continue;
    return find_exactly(std::string(name.substr(0, name.size() - now.size())).append(then));
  }
  return nullptr;
}

const StoredTensor* CheckpointSource::find_exactly(std::string_view name) const {
  const StoredTensor* tensor = checkpoint_.describe(name);
  if (tensor == nullptr && !optional_prefix_.empty() && name.starts_with(optional_prefix_)) {
    tensor = checkpoint_.describe(name.substr(optional_prefix_.size()));
  }
  for (const OtherName& known : other_names_) {
    if (tensor == nullptr && known.name == name) tensor = checkpoint_.describe(known.other);
  }
  return tensor;
}

const StoredTensor& CheckpointSource::described(std::string_view name,
                                                std::span<const std::int64_t> shape) const {
  const StoredTensor* tensor = find(name);
  const StoredTensor& found =
      checkpoint_.check(tensor != nullptr ? std::string_view(tensor->name) : name, shape);
  if (!core::is_weight_float(found.dtype)) {
    core::fail(core::ErrorKind::kUnsupported,
               "{}: tensor {} has elements of type {}; supported are float32, float16 and bfloat16",
               found.file->string(), core::quoted(found.name, 200), core::to_string(found.dtype));
  }
  return found;
}

core::DType CheckpointSource::check(std::string_view name, std::span<const std::int64_t> shape) {
  return described(name, shape).dtype;
}

const StoredTensor& CheckpointSource::require(std::string_view name, std::span<const std::int64_t> shape) {
  return checkpoint_.require(described(name, shape).name, shape);
}

void CheckpointSource::will_need(std::string_view name) {
  if (const StoredTensor* tensor = find(name)) checkpoint_.will_need(*tensor);
}

void CheckpointSource::release(const StoredTensor& tensor) { checkpoint_.release(tensor); }

}  // namespace peregrine::weights
