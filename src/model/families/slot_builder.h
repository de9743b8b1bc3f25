// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "model/slots.h"

namespace peregrine::model {

/// How the weights of linear layers are stored.
enum class Stored : std::uint8_t {
  kOutIn,  ///< [out, in], as almost everywhere.
  kInOut,  ///< [in, out]: GPT-2's Conv1D.
};

/// Collects the slots of a model or layer, in the order in which they are added; `prefix` is put before every
/// tensor name. `stored` holds for fused() and linear().
class SlotBuilder {
 public:
  explicit SlotBuilder(std::string prefix, Stored stored = Stored::kOutIn)
      : prefix_(std::move(prefix)), transposed_(stored == Stored::kInOut) {}

  /// A slot that is one whole tensor, a matrix or a vector.
  void whole(Slot slot, Cut cut, const std::string& tensor, std::vector<std::int64_t> shape);

  /// `weight` and, where there is a bias, `bias` of one norm: `tensor`.weight [width], `tensor`.bias.
  void norm(Slot weight, Slot bias, bool with_bias, const std::string& tensor, std::int64_t width);

  /// A vector that is cut by heads and stored as tensors of `width` elements, one for each head.
  void by_head(Slot slot, const std::vector<std::string>& tensors, std::int64_t width);

  /// A row range of a fused slot's source.
  struct Rows {
    std::string part;     ///< "q", "k", ...
    std::string tensor;   ///< Without ".weight" or ".bias".
    std::int64_t stored;  ///< Rows that the stored tensor has.
    RowRuns runs;
  };

  /// A fused linear layer: `weight` from the parts' .weight [stored, cols], and where there is a bias `bias`
  /// from their .bias [stored], cut alike.
  void fused(Slot weight, Slot bias, bool with_bias, Cut cut, const std::vector<Rows>& parts,
             std::int64_t cols);

  /// A linear layer without bias from the parts' .weight [stored, cols]; `expert` is the slot's.
  void stacked(Slot slot, Cut cut, const std::vector<Rows>& parts, std::int64_t cols,
               std::int32_t expert = 0);

  /// A linear layer [rows, cols]: `tensor`.weight and, where there is a bias, `tensor`.bias. The bias of a
  /// layer whose inputs are cut is added once, after the sum, so it is replicated; otherwise it is cut alike.
  void linear(Slot weight, Slot bias, bool with_bias, Cut cut, const std::string& tensor, std::int64_t rows,
              std::int64_t cols);

  std::vector<SlotSource> take() { return std::move(slots_); }

 private:
  std::string prefix_;
  bool transposed_;
  std::vector<SlotSource> slots_;
};

/// All `rows` rows as one run.
RowRuns all_rows(std::int64_t rows);

}  // namespace peregrine::model
