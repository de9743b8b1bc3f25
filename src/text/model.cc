// SPDX-License-Identifier: Apache-2.0
#include "text/model.h"

#include <algorithm>
#include <array>

#include "text/bpe.h"
#include "text/component.h"
#include "text/unigram.h"
#include "text/word_models.h"

namespace peregrine::text {
namespace {

using Made = std::unique_ptr<Model>;
using Json = const core::JsonView&;

constexpr std::array kTypes = {
    ComponentType<Model>{"BPE", [](Json json) -> Made { return std::make_unique<Bpe>(json); }},
    ComponentType<Model>{"WordPiece", [](Json json) -> Made { return std::make_unique<WordPiece>(json); }},
    ComponentType<Model>{"Unigram", [](Json json) -> Made { return std::make_unique<Unigram>(json); }},
    ComponentType<Model>{"WordLevel", [](Json json) -> Made { return std::make_unique<WordLevel>(json); }},
};

/// What a model without "type" must be: only BPE has merges, only Unigram's vocabulary is a list, only
/// WordPiece has a prefix.
std::string_view guess_type(const core::JsonView& json) {
  if (json.find("merges")) return "BPE";
  if (json.at("vocab").is_array()) return "Unigram";
  return json.find("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

}  // namespace

std::unique_ptr<Model> make_model(const core::JsonView& json) {
  if (json.find("type")) return make_component<Model>(json, kTypes);
  const std::string_view type = guess_type(json);
  return std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& known) { return known.name == type; })
      ->make(json);
}

}  // namespace peregrine::text
