// SPDX-License-Identifier: Apache-2.0
#include "text/model.h"

#include <array>

#include "text/bpe.h"
#include "text/component.h"

namespace peregrine::text {
namespace {

constexpr std::array kTypes = {
    ComponentType<Model>{
        "BPE",
        [](const core::JsonView& json) -> std::unique_ptr<Model> { return std::make_unique<Bpe>(json); }},
};

/// What a model without "type" must be: only BPE has merges, only Unigram's vocabulary is a list.
std::string_view guess_type(const core::JsonView& json) {
  if (json.find("merges")) return "BPE";
  const auto vocab = json.find("vocab");
  return vocab && vocab->is_array() ? "Unigram" : "WordPiece";
}

}  // namespace

std::unique_ptr<Model> make_model(const core::JsonView& json) {
  if (json.find("type")) return make_component<Model>(json, kTypes);
  const std::string_view type = guess_type(json);
  if (type == "BPE") return std::make_unique<Bpe>(json);
  core::fail(core::ErrorKind::kUnsupported,
             "{}: a {} model (it has no \"type\" and no \"merges\") is not supported, only BPE", json.where(),
             type);
}

}  // namespace peregrine::text
