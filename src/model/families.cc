// SPDX-License-Identifier: Apache-2.0
#include "model/families/families.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "model/encoder_family.h"
#include "model/family.h"

namespace peregrine::model {
namespace {

// A line each.
// clang-format off
constexpr auto kFamilies = std::to_array<const Family*>({
    &kBloomFamily,
    &kFalconFamily,
    &kGemmaFamily,
    &kGemma2Family,
    &kGpt2Family,
    &kGptBigCodeFamily,
    &kGptJFamily,
    &kGptNeoxFamily,
    &kLlamaFamily,
    &kMistralFamily,
    &kMixtralFamily,
    &kMptFamily,
    &kOptFamily,
    &kPhiFamily,
    &kPhi3Family,
    &kQwen2Family,
    &kQwen2MoeFamily,
    &kQwen3Family,
    &kQwen3MoeFamily,
    &kStableLmFamily,
    &kStarcoder2Family,
    &kT5Family,
});
// clang-format on

bool contains(const std::vector<std::string_view>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::span<const Family* const> families() { return kFamilies; }

const Family& find_family(std::string_view architecture, std::string_view model_type) {
  for (const Family* family : kFamilies) {
    if (contains(family->architectures, architecture)) return *family;
  }
  // The model type decides only where the file names no class: "LlamaForSequenceClassification" is of type
  // "llama" as well, but has another head.
  if (architecture.empty() || architecture == model_type) {
    for (const Family* family : kFamilies) {
      if (contains(family->model_types, model_type)) return *family;
    }
  }
  std::vector<std::string_view> known;
  for (const Family* family : kFamilies) {
    known.insert(known.end(), family->architectures.begin(), family->architectures.end());
  }
  for (const EncoderFamily* family : encoder_families()) {
    known.insert(known.end(), family->architectures.begin(), family->architectures.end());
  }
  core::fail(
      core::ErrorKind::kUnsupported,
      "config.json: 'architectures' names {} (model type {}), which is not supported; supported are {}",
      core::quoted(architecture), core::quoted(model_type), fmt::join(known, ", "));
}

}  // namespace peregrine::model
