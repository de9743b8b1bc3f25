// SPDX-License-Identifier: Apache-2.0
#include "support/golden.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/files.h"
#include "core/json.h"
#include "support/test_data.h"

namespace peregrine::testing {
namespace {

using core::JsonView;

constexpr std::array kWeights = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                 "pytorch_model.bin.index.json"};

std::vector<std::int32_t> ids_of(const JsonView& list) {
  std::vector<std::int32_t> ids;
  for (const JsonView& item : list.items())
    ids.push_back(static_cast<std::int32_t>(item.as_int(0, INT32_MAX)));
  return ids;
}

/// null stands for minus infinity.
std::vector<float> floats_of(const JsonView& list) {
  std::vector<float> values;
  for (const JsonView& item : list.items()) {
    values.push_back(item.is_null() ? -std::numeric_limits<float>::infinity()
                                    : static_cast<float>(item.as_number()));
  }
  return values;
}

template <typename Read>
auto list_of(const JsonView& list, Read read) {
  std::vector<decltype(read(list))> out;
  for (const JsonView& item : list.items()) out.push_back(read(item));
  return out;
}

std::vector<GoldenCase> read_cases(const JsonView& cases) {
  std::vector<GoldenCase> out;
  for (const JsonView& item : cases.items()) {
    const auto parameters = item.at("params");
    if (parameters.find("num_beams")) continue;
    out.push_back({std::string(item.at("name").as_string()),
                   static_cast<std::size_t>(item.at("prompt").as_int(0, 1000)),
                   parameters.value().as_object(), list_of(item.at("new_ids"), ids_of)});
  }
  return out;
}

}  // namespace

GoldenDecoder read_golden_decoder(const std::filesystem::path& fixture) {
  const auto path = fixture / "expected.json";
  const auto document = core::parse_json(core::read_file(path, 1 << 28), path.string());
  const JsonView root(document, path.string());
  GoldenDecoder golden;
  golden.prompts = list_of(root.at("prompts"), ids_of);
  golden.last_logits = list_of(root.at("last_logits"), floats_of);
  golden.all_logits_prompt = static_cast<std::size_t>(root.at("all_logits").at("prompt").as_int(0, 1000));
  golden.all_logits = list_of(root.at("all_logits").at("logits"), floats_of);
  for (const JsonView& item : root.at("greedy").items()) {
    golden.greedy.push_back({ids_of(item.at("new_ids")), floats_of(item.at("logprobs"))});
  }
  golden.cases = read_cases(root.at("generate"));
  if (const auto prompt = root.find("long_prompt")) {
    golden.long_prompt = ids_of(prompt->at("prompt"));
    golden.long_last_logits = floats_of(prompt->at("last_logits"));
    golden.long_argmax = ids_of(prompt->at("argmax_per_position"));
  }
  if (const auto stop = root.find("generation_config_stop")) {
    boost::json::object parameters;
    parameters["max_new_tokens"] = stop->at("max_new_tokens").as_int(1, 1000);
    golden.generation_config_stop.push_back({"generation_config_stop",
                                             static_cast<std::size_t>(stop->at("prompt").as_int(0, 1000)),
                                             parameters,
                                             {ids_of(stop->at("new_ids"))}});
  }
  return golden;
}

std::vector<std::string> golden_fixtures(const std::vector<std::string>& prefixes) {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(test_data() / "golden", missing)) {
    const std::string name = entry.path().filename();
    const bool wanted = std::any_of(prefixes.begin(), prefixes.end(),
                                    [&](const auto& prefix) { return name.starts_with(prefix); });
    const bool readable = std::any_of(kWeights.begin(), kWeights.end(), [&](const char* file) {
      return std::filesystem::exists(entry.path() / file);
    });
    if (wanted && readable) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace peregrine::testing
