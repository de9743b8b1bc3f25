// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "engine/engine.h"
#include "generation/parameter_set.h"
#include "text/tokenizer.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;
using core::fail;

struct GenerateFlags {
  ModelFlags model;
  std::optional<std::string> prompt;
  std::optional<std::string> ids;
  std::optional<std::int32_t> max_new_tokens;
  bool greedy = false;
  std::vector<std::string> parameters;
  std::vector<std::string> stop;
};

std::unique_ptr<const text::Tokenizer> load_tokenizer(const GenerateFlags& flags,
                                                      const std::filesystem::path& directory) {
  if (!flags.prompt && flags.stop.empty() && !std::filesystem::exists(directory / "tokenizer.json"))
    return nullptr;
  return text::Tokenizer::load(directory);
}

generation::ParameterSet read_parameters(const GenerateFlags& flags) {
  generation::ParameterSet set;
  for (const std::string& text : flags.parameters) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail(ErrorKind::kInvalidArgument, "--param must be name=value, found {}", core::quoted(text));
    }
    const std::string name = text.substr(0, equals);
    const auto value =
        core::parse_json(std::string_view(text).substr(equals + 1), fmt::format("--param {}", name));
    if (!set.set(name, value, true)) {
      const std::string_view near = generation::ParameterSet::suggestion(name);
      fail(ErrorKind::kInvalidArgument, "--param {} is not a generation parameter{}", core::quoted(name),
           near.empty() ? "" : fmt::format("; did you mean {}?", near));
    }
  }
  if (flags.max_new_tokens) set.set("max_new_tokens", *flags.max_new_tokens);
  if (flags.greedy) set.set("do_sample", false);
  return set;
}

std::shared_ptr<const std::vector<std::string>> token_bytes(const text::Tokenizer& tokenizer) {
  auto bytes = std::make_shared<std::vector<std::string>>();
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) bytes->push_back(tokenizer.token_bytes(id));
  return bytes;
}

engine::Request make_request(const GenerateFlags& flags, const Session& session,
                             const text::Tokenizer* tokenizer) {
  engine::Request request;
  request.id = 1;
  std::vector<std::int32_t> ids;
  if (flags.ids) {
    ids = parse_ids(*flags.ids, "--ids");
  } else {
    ids = tokenizer->encode(*flags.prompt, {});
    if (ids.empty()) fail(ErrorKind::kInvalidArgument, "--prompt gives no tokens");
  }
  const model_info::ModelInfo& info = session.model.directory.info();
  if (session.model.encoder) {
    request.encoder_ids = std::move(ids);
    request.prompt_ids = {info.decoder_start()};
  } else {
    request.prompt_ids = std::move(ids);
  }
  request.parameters = read_parameters(flags).resolve(info, session.model.decoder->config().vocab_size,
                                                      static_cast<std::int64_t>(request.prompt_ids.size()));
  // Hypotheses end where the engine finds one; elsewhere the text is cut as it comes.
  if (request.parameters.num_beams > 1) request.parameters.stop_strings = flags.stop;
  request.seed = request.parameters.seed.value_or((static_cast<std::uint64_t>(std::random_device{}()) << 32) |
                                                  std::random_device{}());
  return request;
}

void generate(const GenerateFlags& flags) {
  if (flags.prompt.has_value() == flags.ids.has_value()) {
    fail(ErrorKind::kInvalidArgument, "one of --prompt and --ids is needed");
  }
  // Cheap checks come before the weights are read.
  auto model_options = read_options(flags.model);
  const auto tokenizer =
      load_tokenizer(flags, configuration::model_files(flags.model.model_dir, model_options));
  read_parameters(flags);
  Session session = open_session(flags.model, std::move(model_options));
  decoder_of(session);
  engine::Request request = make_request(flags, session, tokenizer.get());
  const generation::Parameters parameters = request.parameters;

  engine::EngineOptions options = host::engine_options(session.options);
  options.max_rolling_batch_size = std::max(options.max_rolling_batch_size, parameters.computed_sequences());
  engine::Engine engine(*session.device, *session.model.decoder, options, session.model.encoder.get());
  if (!parameters.stop_strings.empty()) engine.set_vocabulary(token_bytes(*tokenizer));
  const bool streaming = !flags.model.json && parameters.computed_sequences() == 1 && tokenizer != nullptr;
  Collector collector(parameters, tokenizer.get(), flags.stop, streaming);
  engine.submit(std::move(request));
  while (!collector.all_ended() && engine.step(collector)) {
  }
  collector.finish();
  const std::vector<Sequence> sequences = collector.best();
  for (const Sequence& sequence : sequences) {
    if (sequence.finish == generation::FinishReason::kError)
      fail(ErrorKind::kInternal, "generation failed: {}", sequence.error);
    if (!sequence.finish) fail(ErrorKind::kInternal, "generation stopped without an end");
  }
  const std::string answer = flags.model.json
                                 ? answer_json(sequences, tokenizer.get(), parameters, collector.prompt())
                             : streaming ? std::string()
                                         : answer_text(sequences, tokenizer.get());
  std::fwrite(answer.data(), 1, answer.size(), stdout);
}

/// The list of --param names for --help.
std::string parameter_help() {
  std::string out = "Generation parameters for --param (null means not set):\n";
  for (const generation::ParameterInfo& info : generation::parameter_table()) {
    out += fmt::format("  {:<24} {}: {}; {}\n", info.name, info.type, info.allowed, info.meaning);
  }
  return out;
}

}  // namespace

void add_generate(CLI::App& app) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a prompt, or answer it where the model is an encoder-decoder");
  flags->model.add_to(*command, false);
  command->add_option("--prompt", flags->prompt, "Text to continue");
  command->add_option("--ids", flags->ids, "Token ids to continue, such as 1,2,3; needs no tokenizer");
  command->add_option("--stop", flags->stop, "TEXT before which the answer ends; may be given again")
      ->allow_extra_args(false)
      ->check([](const std::string& text) {
        return text.empty() ? std::string("must not be empty") : std::string();
      });
  command->add_option("--max-new-tokens", flags->max_new_tokens,
                      "Longest answer in tokens (default: the model's, or 30)");
  command->add_flag("--greedy", flags->greedy, "Always take the most likely token (do_sample=false)");
  command->add_option("--param", flags->parameters, "NAME=VALUE: a generation parameter, the value as JSON")
      ->allow_extra_args(false);
  command->footer(parameter_help);
  command->callback([flags] { generate(*flags); });
}

}  // namespace peregrine::cli
