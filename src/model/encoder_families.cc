// SPDX-License-Identifier: Apache-2.0
#include "model/families/encoder_families.h"

#include <algorithm>
#include <array>

#include "model/encoder_family.h"

namespace peregrine::model {
namespace {

constexpr auto kFamilies = std::to_array<const EncoderFamily*>({
    &kBertFamily,
    &kDistilBertFamily,
    &kElectraFamily,
    &kRobertaFamily,
    &kT5EncoderFamily,
});

bool contains(const std::vector<std::string_view>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::span<const EncoderFamily* const> encoder_families() { return kFamilies; }

const EncoderFamily* find_encoder_family(std::string_view architecture, std::string_view model_type) {
  // The model type decides only where the file names no class, as in find_family().
  const bool by_type = architecture.empty() || architecture == model_type;
  for (const EncoderFamily* family : kFamilies) {
    if (contains(by_type ? family->model_types : family->architectures, by_type ? model_type : architecture))
      return family;
  }
  return nullptr;
}

}  // namespace peregrine::model
