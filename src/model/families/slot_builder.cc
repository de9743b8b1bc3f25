// SPDX-License-Identifier: Apache-2.0
#include "model/families/slot_builder.h"

#include <utility>

namespace peregrine::model {

RowRuns all_rows(std::int64_t rows) { return {0, rows, rows, 1}; }

void SlotBuilder::whole(Slot slot, Cut cut, const std::string& tensor, std::vector<std::int64_t> shape) {
  const RowRuns rows = all_rows(shape.front());
  slots_.push_back({slot, cut, {Part{"", prefix_ + tensor, std::move(shape), rows}}});
}

void SlotBuilder::norm(Slot weight, Slot bias, bool with_bias, const std::string& tensor,
                       std::int64_t width) {
  whole(weight, Cut::kReplicated, tensor + ".weight", {width});
  if (with_bias) whole(bias, Cut::kReplicated, tensor + ".bias", {width});
}

void SlotBuilder::by_head(Slot slot, const std::vector<std::string>& tensors, std::int64_t width) {
  SlotSource source{slot, Cut::kHeadGroup, {}};
  for (const auto& tensor : tensors) {
    source.parts.push_back({"", prefix_ + tensor, {width}, all_rows(width)});
  }
  slots_.push_back(std::move(source));
}

void SlotBuilder::fused(Slot weight, Slot bias, bool with_bias, Cut cut, const std::vector<Rows>& parts,
                        std::int64_t cols) {
  stacked(weight, cut, parts, cols);
  if (!with_bias) return;
  SlotSource biases{bias, cut, {}};
  for (const auto& part : parts) {
    biases.parts.push_back({part.part, prefix_ + part.tensor + ".bias", {part.stored}, part.runs});
  }
  slots_.push_back(std::move(biases));
}

void SlotBuilder::stacked(Slot slot, Cut cut, const std::vector<Rows>& parts, std::int64_t cols,
                          std::int32_t expert) {
  SlotSource weights{slot, cut, {}, transposed_, expert};
  for (const auto& part : parts) {
    std::vector<std::int64_t> shape = {part.stored, cols};
    if (transposed_) std::swap(shape[0], shape[1]);
    weights.parts.push_back({part.part, prefix_ + part.tensor + ".weight", std::move(shape), part.runs});
  }
  slots_.push_back(std::move(weights));
}

void SlotBuilder::linear(Slot weight, Slot bias, bool with_bias, Cut cut, const std::string& tensor,
                         std::int64_t rows, std::int64_t cols) {
  std::vector<std::int64_t> shape = {rows, cols};
  if (transposed_) std::swap(shape[0], shape[1]);
  slots_.push_back(
      {weight, cut, {Part{"", prefix_ + tensor + ".weight", std::move(shape), all_rows(rows)}}, transposed_});
  if (with_bias) whole(bias, cut == Cut::kRow ? Cut::kReplicated : cut, tensor + ".bias", {rows});
}

}  // namespace peregrine::model
