// SPDX-License-Identifier: Apache-2.0
#include "support/golden.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

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
    const auto scores = item.find("sequences_scores");
    out.push_back({std::string(item.at("name").as_string()),
                   static_cast<std::size_t>(item.at("prompt").as_int(0, 1000)),
                   parameters.value().as_object(), list_of(item.at("new_ids"), ids_of),
                   scores ? floats_of(*scores) : std::vector<float>{}});
  }
  return out;
}

/// The list under `key`, where it is there.
std::vector<float> floats_at(const JsonView& object, std::string_view key) {
  const auto list = object.find(key);
  return list ? floats_of(*list) : std::vector<float>{};
}

GoldenEncoding read_encoding(const JsonView& object) {
  GoldenEncoding out;
  if (const auto states = object.find("last_hidden_state"))
    out.last_hidden_state = list_of(*states, floats_of);
  out.mean_pooled = floats_at(object, "mean_pooled");
  out.cls_hidden = floats_at(object, "cls_hidden");
  out.pooler_output = floats_at(object, "pooler_output");
  out.classification_logits = floats_at(object, "classification_logits");
  return out;
}

GoldenLayer read_layer(const JsonView& object) {
  return {object.at("sum").as_number(), object.at("abs_sum").as_number(), object.at("sq_sum").as_number(),
          floats_of(object.at("first_position")), floats_of(object.at("last_position"))};
}

/// Every list of a padded batch has one row per prompt.
std::vector<GoldenEncoding> read_padded(const JsonView& batch) {
  std::vector<GoldenEncoding> out(batch.at("input_ids").items().size());
  const auto spread = [&](std::string_view key, std::vector<float> GoldenEncoding::*member) {
    const auto rows = batch.find(key);
    if (!rows) return;
    const auto lists = list_of(*rows, floats_of);
    for (std::size_t i = 0; i < out.size(); ++i) out[i].*member = lists.at(i);
  };
  spread("mean_pooled", &GoldenEncoding::mean_pooled);
  spread("cls_hidden", &GoldenEncoding::cls_hidden);
  spread("classification_logits", &GoldenEncoding::classification_logits);
  return out;
}

}  // namespace

GoldenEncoder read_golden_encoder(const std::filesystem::path& fixture) {
  const auto path = fixture / "expected.json";
  const auto document = core::parse_json(core::read_file(path, 1 << 28), path.string());
  const JsonView root(document, path.string());
  GoldenEncoder golden;
  golden.prompts = list_of(root.at("prompts"), ids_of);
  for (const JsonView& item : root.at("results").items()) {
    if (const auto layers = item.find("hidden_states")) {
      golden.layers_prompt = golden.results.size();
      golden.layers = list_of(*layers, read_layer);
    }
    golden.results.push_back(read_encoding(item));
  }
  golden.padded = read_padded(root.at("padded_batch"));
  if (const auto typed = root.find("token_types")) {
    golden.typed_prompt = static_cast<std::size_t>(typed->at("prompt").as_int(0, 1000));
    golden.token_types = ids_of(typed->at("token_type_ids"));
    golden.typed = read_encoding(*typed);
  }
  return golden;
}

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
  if (const auto start = root.find("decoder_start_token_id")) {
    golden.decoder_start = static_cast<std::int32_t>(start->as_int(0, INT32_MAX));
  }
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
                                             {ids_of(stop->at("new_ids"))},
                                             {}});
  }
  return golden;
}

GoldenSeq2Seq read_golden_seq2seq(const std::filesystem::path& fixture) {
  const auto path = fixture / "expected.json";
  const auto document = core::parse_json(core::read_file(path, 1 << 28), path.string());
  const JsonView root(document, path.string());
  GoldenSeq2Seq golden{read_golden_decoder(fixture), {}, 0, {}};
  golden.decoder_inputs = list_of(root.at("decoder_inputs"), ids_of);
  const JsonView hidden = root.at("encoder_last_hidden_state");
  golden.hidden_prompt = static_cast<std::size_t>(hidden.at("prompt").as_int(0, 1000));
  golden.encoder_hidden = list_of(hidden.at("values"), floats_of);
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
