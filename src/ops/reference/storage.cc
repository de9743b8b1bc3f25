// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/storage.h"

namespace peregrine::ops::reference {

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
