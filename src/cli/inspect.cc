// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "engine/encoder_engine.h"
#include "engine/engine.h"
#include "model/encoder_family.h"
#include "model/family.h"
#include "model_info/model_info.h"
#include "weights/checkpoint.h"

namespace peregrine::cli {
namespace {

struct InspectFlags {
  ModelFlags model;
  bool plan = false;
  bool config = false;
};

/// Names with values that are already JSON, in the order in which they are shown.
using Facts = std::vector<std::pair<std::string, std::string>>;

std::string to_text(const Facts& facts, bool json) {
  std::string out = json ? "{" : "";
  for (const auto& [name, value] : facts) {
    if (json) {
      out += fmt::format("{}\"{}\":{}", out.size() > 1 ? "," : "", name, value);
    } else {
      out += fmt::format("{:<24} {}\n", name, value);
    }
  }
  return out + (json ? "}\n" : "");
}

std::string_view name_of(model::ResidualOrder order) {
  switch (order) {
    case model::ResidualOrder::kSequential:
      return "sequential";
    case model::ResidualOrder::kParallelOneNorm:
      return "parallel, one norm";
    case model::ResidualOrder::kParallelTwoNorms:
      return "parallel, two norms";
    case model::ResidualOrder::kPostNorm:
      return "sequential, norms behind";
    case model::ResidualOrder::kNormedResidual:
      return "sequential, normed residual";
    case model::ResidualOrder::kSandwich:
      return "sequential, norms on both sides";
  }
  return "?";
}

std::string_view name_of(model::PositionKind positions) {
  switch (positions) {
    case model::PositionKind::kRotary:
      return "rotary";
    case model::PositionKind::kAlibi:
      return "alibi";
    case model::PositionKind::kLearned:
      return "learned";
    case model::PositionKind::kRelative:
      return "relative";
  }
  return "?";
}

template <typename T>
std::string number(T value) {
  return fmt::format("{}", value);
}

/// What is known of every checkpoint without loading it.
void append_files(const std::filesystem::path& files, const configuration::ModelOptions& options,
                  const model_info::ModelInfo& info, Facts& facts) {
  const auto checkpoint = weights::Checkpoint::open(files, {.allow_pickle = options.allow_pickle});
  facts.emplace_back("torch_dtype",
                     info.torch_dtype ? json_string(core::to_string(*info.torch_dtype)) : "null");
  facts.emplace_back("tensors", number(checkpoint.names().size()));
  facts.emplace_back("checkpoint_bytes", number(checkpoint.total_bytes()));
}

Facts encoder_facts(const model_info::ModelDirectory& directory, const model::EncoderFamily& family) {
  const auto& info = directory.info();
  const model::EncoderConfig config = family.read_config(directory.config(), info.architecture);
  std::string labels;
  for (const std::string& label : config.head.labels)
    labels += (labels.empty() ? "" : ",") + json_string(label);
  return {{"architecture", json_string(info.architecture)},
          {"family", json_string(family.name)},
          {"layers", number(config.layers)},
          {"hidden_size", number(config.hidden_size)},
          {"heads", number(config.heads)},
          {"head_dim", number(config.head_dim)},
          {"intermediate_size", number(config.intermediate_size)},
          {"vocab_size", number(config.vocab_size)},
          {"max_positions", number(config.max_positions)},
          {"positions", json_string(name_of(config.positions))},
          {"labels", "[" + labels + "]"}};
}

Facts decoder_facts(const model_info::ModelDirectory& directory) {
  const auto& info = directory.info();
  const model::Family& family = model::find_family(info.architecture, info.model_type);
  const model::DecoderConfig config = family.read_config(directory.config());
  return {{"architecture", json_string(info.architecture)},
          {"family", json_string(family.name)},
          {"layers", number(config.layers)},
          {"hidden_size", number(config.hidden_size)},
          {"heads", number(config.heads)},
          {"kv_heads", number(config.kv_heads)},
          {"head_dim", number(config.head_dim)},
          {"intermediate_size", number(config.intermediate_size)},
          {"vocab_size", number(config.vocab_size)},
          {"max_positions", number(config.max_positions)},
          {"residual_order", json_string(name_of(config.residual))},
          {"positions", json_string(name_of(config.positions))},
          {"tied_head", config.tied_head ? "true" : "false"},
          {"eos_token_ids", json_array(info.eos_token_ids)}};
}

/// What config.json and the checkpoint's headers say; nothing is loaded.
Facts model_facts(const ModelFlags& flags) {
  const configuration::ModelOptions options = read_options(flags);
  const auto files = configuration::model_files(flags.model_dir, options);
  const auto directory = model_info::ModelDirectory::open(files);
  const auto& info = directory.info();
  const model::EncoderFamily* encoder = model::find_encoder_family(info.architecture, info.model_type);
  Facts facts = encoder != nullptr ? encoder_facts(directory, *encoder) : decoder_facts(directory);
  append_files(files, options, info, facts);
  return facts;
}

/// What the model takes once it is loaded with these options.
Facts plan_facts(const ModelFlags& flags) {
  const Session session = open_session(flags, read_options(flags));
  const auto options = host::engine_options(session.options);
  if (!session.model.decoder) {
    const model::Encoder& encoder = *session.model.encoder;
    const engine::MemoryPlan plan = engine::EncoderEngine(*session.device, encoder, options).memory_plan();
    return {{"device", json_string(session.device->description())},
            {"dtype", json_string(core::to_string(encoder.types().weights))},
            {"quantize", json_string(core::to_string(encoder.types().quantization))},
            {"compute_dtype", json_string(core::to_string(encoder.types().compute))},
            {"weight_bytes", number(plan.weight_bytes)},
            {"buffer_bytes", number(plan.buffer_bytes)},
            {"max_model_length", number(plan.max_model_length)},
            {"max_rolling_batch_size", number(session.options.max_rolling_batch_size)}};
  }
  const model::Decoder& decoder = *session.model.decoder;
  const engine::Engine engine(*session.device, decoder, options, session.model.encoder.get());
  const engine::MemoryPlan plan = engine.memory_plan();
  return {{"device", json_string(session.device->description())},
          {"dtype", json_string(core::to_string(decoder.types().weights))},
          {"quantize", json_string(core::to_string(decoder.types().quantization))},
          {"compute_dtype", json_string(core::to_string(decoder.types().compute))},
          {"kv_cache_dtype", json_string(core::to_string(decoder.types().cache))},
          {"weight_bytes", number(plan.weight_bytes)},
          {"kv_cache_bytes", number(plan.kv_cache_bytes)},
          {"kv_blocks", number(plan.kv_blocks)},
          {"kv_block_bytes", number(plan.kv_block_bytes)},
          {"buffer_bytes", number(plan.buffer_bytes)},
          {"max_model_length", number(plan.max_model_length)},
          {"max_rolling_batch_size", number(session.options.max_rolling_batch_size)}};
}

void inspect(const InspectFlags& flags) {
  Facts facts;
  if (flags.config) {
    for (const configuration::Setting& setting : read_options(flags.model).settings) {
      facts.emplace_back(
          setting.key, flags.model.json ? fmt::format("{{\"value\":{},\"origin\":{}}}",
                                                      json_string(setting.value), json_string(setting.origin))
                                        : fmt::format("{} ({})", setting.value, setting.origin));
    }
  } else {
    facts = flags.plan ? plan_facts(flags.model) : model_facts(flags.model);
  }
  const std::string out = to_text(facts, flags.model.json);
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand("inspect", "What a model is, takes, and is configured as");
  flags->model.add_to(*command, false);
  auto* plan = command->add_flag("--plan", flags->plan,
                                 "Load the model and show what it takes: types, weights, KV cache, buffers");
  command->add_flag("--config", flags->config, "Show the options that are set, and where")->excludes(plan);
  command->callback([flags] { inspect(*flags); });
}

}  // namespace peregrine::cli
