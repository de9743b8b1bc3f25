// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/storage.h"

#include <cstring>

namespace peregrine::ops::reference {

std::size_t ReferenceWeight::bytes_of(std::int64_t rows, std::int64_t cols, core::DType dtype) {
  const std::size_t scales = dtype == core::DType::kI8 ? static_cast<std::size_t>(rows) * sizeof(float) : 0;
  return scales + static_cast<std::size_t>(rows * cols) * core::size_of(dtype);
}

std::byte* ReferenceWeight::row_data(const AddressSpace& memory, std::int64_t index) const {
  const std::size_t row_bytes = static_cast<std::size_t>(cols()) * core::size_of(dtype());
  const std::size_t before = bytes_of(rows(), 0, dtype()) + static_cast<std::size_t>(index) * row_bytes;
  return memory.host(buffer_.address() + before, row_bytes, core::size_of(dtype()), "weight");
}

float* ReferenceWeight::row_scale(const AddressSpace& memory, std::int64_t index) const {
  const std::size_t before = static_cast<std::size_t>(index) * sizeof(float);
  return reinterpret_cast<float*>(
      memory.host(buffer_.address() + before, sizeof(float), alignof(float), "weight"));
}

std::vector<float> ReferenceWeight::row(const AddressSpace& memory, std::int64_t index) const {
  std::vector<float> out;
  if (dtype() == core::DType::kI8) {
    const QuantizedRow quantized = quantized_row(memory, index);
    for (const std::int8_t value : quantized.values) out.push_back(value * quantized.scale);
    return out;
  }
  const std::byte* data = row_data(memory, index);
  for (std::int64_t col = 0; col < cols(); ++col) out.push_back(load(data, dtype(), col));
  return out;
}

QuantizedRow ReferenceWeight::quantized_row(const AddressSpace& memory, std::int64_t index) const {
  expect(dtype() == core::DType::kI8, "a weight of {} was taken for int8", core::to_string(dtype()));
  QuantizedRow out{std::vector<std::int8_t>(static_cast<std::size_t>(cols())), *row_scale(memory, index)};
  std::memcpy(out.values.data(), row_data(memory, index), out.values.size());
  return out;
}

void ReferenceWeight::set_row(const AddressSpace& memory, std::int64_t index,
                              const std::vector<float>& values) {
  std::byte* data = row_data(memory, index);
  if (dtype() == core::DType::kI8) {
    const QuantizedRow quantized = quantize(values);
    *row_scale(memory, index) = quantized.scale;
    std::memcpy(data, quantized.values.data(), quantized.values.size());
    return;
  }
  for (std::size_t col = 0; col < values.size(); ++col) {
    store(data, dtype(), static_cast<std::int64_t>(col), values[col]);
  }
}

const ReferenceWeight& ReferenceWeight::of(const Weight* weight) {
  const auto* own = dynamic_cast<const ReferenceWeight*>(weight);
  expect(own != nullptr, "{} weight was given to the reference device", weight ? "another device's" : "no");
  return *own;
}

std::size_t ReferenceKvCache::heads_before(std::int32_t layer, Part part) const {
  expect(layer >= 0 && layer < spec().layers, "layer {} of a cache of {} layers", layer, spec().layers);
  const auto parts = static_cast<std::size_t>(layer) * 2 + (part == Part::kValues ? 1 : 0);
  return parts * static_cast<std::size_t>(spec().blocks) * kBlockTokens *
         static_cast<std::size_t>(spec().kv_heads);
}

DeviceAddress ReferenceKvCache::elements(std::int32_t layer, Part part) const {
  return buffer_.address() +
         heads_before(layer, part) * static_cast<std::size_t>(spec().head_dim) * core::size_of(spec().dtype);
}

DeviceAddress ReferenceKvCache::scales(std::int32_t layer, Part part) const {
  const std::size_t all = 2 * heads_before(0, Part::kValues) * static_cast<std::size_t>(spec().layers);
  return buffer_.address() + all * static_cast<std::size_t>(spec().head_dim) * core::size_of(spec().dtype) +
         heads_before(layer, part) * sizeof(float);
}

const ReferenceKvCache& ReferenceKvCache::of(const KvCache* cache) {
  const auto* own = dynamic_cast<const ReferenceKvCache*>(cache);
  expect(own != nullptr, "{} cache was given to the reference device", cache ? "another device's" : "no");
  return *own;
}

}  // namespace peregrine::ops::reference
