// SPDX-License-Identifier: Apache-2.0
#include <boost/json/value.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/encoder_text.h"
#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/json.h"
#include "engine/encoder_engine.h"
#include "text/tokenizer.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;
using core::fail;

struct EmbedFlags {
  ModelFlags model;
  std::optional<std::string> text;
  std::optional<std::string> ids;
  std::vector<std::string> parameters;
};

/// What --param can change.
struct Choice {
  std::string prompt;
  bool truncate = false;
};

bool read_flag(const std::string& name, const std::string& value) {
  if (value == "true") return true;
  if (value == "false") return false;
  fail(ErrorKind::kInvalidArgument, "--param {} must be true or false, found {}", name, core::quoted(value));
}

Choice read_parameters(const std::vector<std::string>& parameters, api::EncoderText& encoder) {
  Choice choice{encoder.default_prompt, encoder.truncates};
  for (const std::string& text : parameters) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail(ErrorKind::kInvalidArgument, "--param must be name=value, found {}", core::quoted(text));
    }
    const std::string name = text.substr(0, equals);
    const std::string value = text.substr(equals + 1);
    if (name == "pooling") {
      const auto pooling = api::pooling_named(value);
      if (!pooling) {
        fail(ErrorKind::kInvalidArgument, "--param pooling must be mean, cls or lasttoken, found {}",
             core::quoted(value));
      }
      encoder.pooling = *pooling;
    } else if (name == "normalize") {
      encoder.normalize = read_flag(name, value);
    } else if (name == "truncate") {
      choice.truncate = read_flag(name, value);
    } else if (name == "prompt_name") {
      const auto found = encoder.prompts.find(value);
      if (found == encoder.prompts.end()) {
        fail(ErrorKind::kInvalidArgument, "--param prompt_name: the model has no prompt {}",
             core::quoted(value));
      }
      choice.prompt = found->second;
    } else {
      fail(ErrorKind::kInvalidArgument,
           "--param {} is not known; there are pooling, normalize, truncate and prompt_name",
           core::quoted(name));
    }
  }
  return choice;
}

void embed(const EmbedFlags& flags) {
  if (flags.text.has_value() == flags.ids.has_value()) {
    fail(ErrorKind::kInvalidArgument, "one of --text and --ids is needed");
  }
  engine::EncodeRequest request;
  request.id = 1;
  if (flags.ids) request.ids = parse_ids(*flags.ids, "--ids");
  auto options = read_options(flags.model);
  std::unique_ptr<const text::Tokenizer> tokenizer;
  if (flags.text) {
    tokenizer = text::Tokenizer::load(configuration::model_files(flags.model.model_dir, options));
  }
  const Session session = open_session(flags.model, std::move(options));
  const model::Encoder& encoder = encoder_of(session);
  api::EncoderText facts = api::read_encoder_text(session.model.directory, session.options,
                                                  tokenizer ? tokenizer->truncation_length() : std::nullopt);
  const Choice choice = read_parameters(flags.parameters, facts);
  engine::EncoderEngine engine(*session.device, encoder, host::engine_options(session.options));
  if (flags.text) {
    std::optional<std::size_t> most;
    if (choice.truncate) {
      const std::int64_t longest = engine.memory_plan().max_model_length;
      most = static_cast<std::size_t>(std::min(longest, facts.max_tokens.value_or(longest)));
    }
    auto encoding =
        tokenizer->encode_with_types(facts.prepared(choice.prompt, *flags.text), {.max_tokens = most});
    request.ids = std::move(encoding.ids);
    request.token_types = facts.known_types(std::move(encoding.token_types));
  }
  request.pooling = facts.pooling;
  request.normalize = facts.normalize;
  std::vector<float> embedding;
  engine.submit(std::move(request));
  while (engine.step([&](engine::RequestId, std::span<const float> values) {
    embedding.assign(values.begin(), values.end());
  })) {
  }
  std::string out;
  if (flags.model.json) {
    out = "{\"embedding\":" + json_array(embedding) + "}\n";
  } else {
    for (const float value : embedding) out += json_number(value) + "\n";
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace

void add_embed(CLI::App& app) {
  auto flags = std::make_shared<EmbedFlags>();
  CLI::App* command =
      app.add_subcommand("embed", "The embedding of a text, by an encoder (BERT and its kin)");
  flags->model.add_to(*command, false);
  command->add_option("--text", flags->text, "Text to embed");
  command->add_option("--ids", flags->ids, "Token ids to embed, such as 1,2,3; needs no tokenizer");
  command
      ->add_option("--param", flags->parameters,
                   "NAME=VALUE: pooling=mean|cls|lasttoken, normalize=true|false, truncate=true|false (cut a "
                   "text that is too long), prompt_name=NAME (of the model's prompts)")
      ->allow_extra_args(false);
  command->callback([flags] { embed(*flags); });
}

}  // namespace peregrine::cli
