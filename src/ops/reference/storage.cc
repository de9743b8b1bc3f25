// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/storage.h"

namespace peregrine::ops::reference {

const ReferenceWeight& ReferenceWeight::of(const Weight* weight) {
  const auto* own = dynamic_cast<const ReferenceWeight*>(weight);
  expect(own != nullptr, "{} weight was given to the reference device", weight ? "another device's" : "no");
  return *own;
}

Matrix ReferenceKvCache::positions(std::int32_t layer, Part part) const {
  expect(layer >= 0 && layer < spec().layers, "layer {} of a cache of {} layers", layer, spec().layers);
  const std::int64_t rows = std::int64_t{spec().blocks} * kBlockTokens;
  const std::int64_t cols = std::int64_t{spec().kv_heads} * spec().head_dim;
  const std::int64_t parts_before = std::int64_t{layer} * 2 + (part == Part::kValues ? 1 : 0);
  const auto size = static_cast<std::int64_t>(core::size_of(spec().dtype));
  return {buffer_.address() + parts_before * rows * cols * size, spec().dtype, rows, cols, cols};
}

const ReferenceKvCache& ReferenceKvCache::of(const KvCache* cache) {
  const auto* own = dynamic_cast<const ReferenceKvCache*>(cache);
  expect(own != nullptr, "{} cache was given to the reference device", cache ? "another device's" : "no");
  return *own;
}

}  // namespace peregrine::ops::reference
