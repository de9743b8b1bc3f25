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

void SlotBuilder::fused(Slot weight, Slot bias, bool with_bias, Cut cut, const std::vector<Rows>& parts,
                        std::int64_t cols) {
  SlotSource weights{weight, cut, {}};
  SlotSource biases{bias, cut, {}};
  for (const auto& part : parts) {
    weights.parts.push_back({part.part, prefix_ + part.tensor + ".weight", {part.stored, cols}, part.runs});
    biases.parts.push_back({part.part, prefix_ + part.tensor + ".bias", {part.stored}, part.runs});
  }
  slots_.push_back(std::move(weights));
  if (with_bias) slots_.push_back(std::move(biases));
}

void SlotBuilder::linear(Slot weight, Slot bias, bool with_bias, Cut cut, const std::string& tensor,
                         std::int64_t rows, std::int64_t cols) {
  whole(weight, cut, tensor + ".weight", {rows, cols});
  if (with_bias) whole(bias, cut == Cut::kRow ? Cut::kReplicated : cut, tensor + ".bias", {rows});
}

}  // namespace peregrine::model
