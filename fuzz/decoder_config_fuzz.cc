// SPDX-License-Identifier: Apache-2.0
// rooms: model core
//
// The input is a config.json, read by every family. What a family accepts must be sane: its slots fit their
// tensors, and its rotary frequencies are numbers.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "model/family.h"
#include "model/rotary.h"

namespace {

using namespace peregrine;  // NOLINT

void require(bool condition) {
  if (!condition) std::abort();
}

void check_slots(const std::vector<model::SlotSource>& slots) {
  require(!slots.empty());
  for (const auto& slot : slots) {
    require(!slot.parts.empty());
    for (const auto& part : slot.parts) {
      require(!part.tensor.empty() && (part.tensor_shape.size() == 1 || part.tensor_shape.size() == 2));
      for (const std::int64_t dimension : part.tensor_shape) require(dimension >= 1);
      const auto& rows = part.rows;
      require(rows.first >= 0 && rows.run >= 1 && rows.count >= 1 && rows.step >= rows.run);
      require(rows.first + (rows.count - 1) * rows.step + rows.run <= part.tensor_shape[0]);
    }
  }
}

void check_positions(const model::DecoderConfig& config) {
  if (config.positions == model::PositionKind::kAlibi) {
    require(config.alibi.slopes.size() == static_cast<std::size_t>(config.heads));
    for (const float slope : config.alibi.slopes) require(slope > 0 && slope < 1);
    return;
  }
  require(config.rotary.dim >= 2 && config.rotary.dim % 2 == 0 && config.rotary.dim <= config.head_dim);
  for (const std::int64_t tokens : {std::int64_t{1}, config.max_positions}) {
    for (const float frequency : model::rotary_frequencies(config.rotary, tokens)) {
      require(std::isfinite(frequency) && frequency >= 0 && frequency <= 1);
    }
  }
  require(std::isfinite(model::rotary_attention_factor(config.rotary)));
}

void check(const model::Family& family, const core::JsonView& json) {
  try {
    const auto config = family.read_config(json);
    require(config.family == family.name);
    require(config.heads % config.kv_heads == 0);
    require(std::isfinite(config.norm_epsilon) && config.norm_epsilon > 0);
    check_slots(family.model_slots(config));
    check_slots(family.layer_slots(config, 0));
    check_slots(family.layer_slots(config, config.layers - 1));
    check_positions(config);
  } catch (const core::Error& error) {
    require(core::exit_code(error.kind()) == 2);
    require(std::string_view(error.what()).starts_with("fuzz.json"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto value = core::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz.json");
    for (const auto* family : model::families()) check(*family, {value, "fuzz.json"});
  } catch (const core::Error&) {
    // Not JSON.
  }
  return 0;
}
