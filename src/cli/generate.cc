// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "engine/engine.h"
#include "generation/parameter_set.h"
#include "text/detokenizer.h"
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
};

/// One sequence of the answer, as it grows.
struct Sequence {
  std::vector<std::int32_t> ids;
  std::vector<float> logprobs;
  std::vector<std::vector<decoding::TokenLogProb>> top;
  std::optional<generation::FinishReason> finish;
  std::string error;

  float score() const {
    double sum = 0;
    for (const float value : logprobs) sum += value;
    return static_cast<float>(sum);
  }
};

/// Keeps what each sequence got; writes the first one's text to standard output as it comes where
/// `streaming`.
class Collector : public engine::EventSink {
 public:
  Collector(std::int32_t sequences, const text::Tokenizer* tokenizer, bool streaming)
      : sequences_(static_cast<std::size_t>(sequences)) {
    if (streaming && tokenizer != nullptr) detokenizer_.emplace(*tokenizer, true);
  }

  void on_step(std::span<const engine::SequenceEvent> events) override {
    for (const engine::SequenceEvent& event : events) {
      Sequence& sequence = sequences_.at(static_cast<std::size_t>(event.sequence));
      for (const decoding::SampledToken& token : event.tokens) {
        sequence.ids.push_back(token.token.id);
        sequence.logprobs.push_back(token.token.log_prob);
        sequence.top.push_back(token.top);
        if (detokenizer_ && event.sequence == 0) write(detokenizer_->push(token.token.id));
      }
      if (event.finish) {
        sequence.finish = event.finish;
        sequence.error = event.error;
      }
    }
  }

  void finish() {
    if (detokenizer_) write(detokenizer_->finish() + "\n");
  }

  const std::vector<Sequence>& sequences() const { return sequences_; }

 private:
  static void write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  std::vector<Sequence> sequences_;
  std::optional<text::StreamingDetokenizer> detokenizer_;
};

std::unique_ptr<const text::Tokenizer> load_tokenizer(const GenerateFlags& flags,
                                                      const std::filesystem::path& directory) {
  if (!flags.prompt && !std::filesystem::exists(directory / "tokenizer.json")) return nullptr;
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

std::string sequence_text(const Sequence& sequence, const text::Tokenizer* tokenizer) {
  return tokenizer == nullptr ? std::string("null") : json_string(tokenizer->decode(sequence.ids, true));
}

std::string top_tokens_json(const Sequence& sequence) {
  std::string out = "[";
  for (std::size_t i = 0; i < sequence.top.size(); ++i) {
    out += i > 0 ? ",[" : "[";
    for (std::size_t j = 0; j < sequence.top[i].size(); ++j) {
      const decoding::TokenLogProb& token = sequence.top[i][j];
      out += fmt::format("{}{{\"id\":{},\"logprob\":{}}}", j > 0 ? "," : "", token.id,
                         json_number(token.log_prob));
    }
    out += ']';
  }
  return out + "]";
}

std::string answer_json(const std::vector<Sequence>& sequences, const text::Tokenizer* tokenizer,
                        bool top_tokens) {
  const Sequence& first = sequences.front();
  std::string out = fmt::format("{{\"ids\":{},\"text\":{},\"finish_reason\":\"{}\",\"logprobs\":{}",
                                json_array(first.ids), sequence_text(first, tokenizer),
                                generation::to_string(*first.finish), json_array(first.logprobs));
  if (top_tokens) out += ",\"top_tokens\":" + top_tokens_json(first);
  out += ",\"sequences\":[";
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = sequences[i];
    out += fmt::format("{}{{\"ids\":{},\"text\":{},\"score\":{},\"finish_reason\":\"{}\",\"logprobs\":{}}}",
                       i > 0 ? "," : "", json_array(sequence.ids), sequence_text(sequence, tokenizer),
                       json_number(sequence.score()), generation::to_string(*sequence.finish),
                       json_array(sequence.logprobs));
  }
  return out + "]}\n";
}

/// What the terminal shows when the text was not streamed: several sequences, or ids where there is no
/// tokenizer.
std::string answer_text(const std::vector<Sequence>& sequences, const text::Tokenizer* tokenizer) {
  std::string out;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (sequences.size() > 1) out += fmt::format("--- {} of {}\n", i + 1, sequences.size());
    out += tokenizer == nullptr ? json_array(sequences[i].ids) : tokenizer->decode(sequences[i].ids, true);
    out += '\n';
  }
  return out;
}

engine::Request make_request(const GenerateFlags& flags, const Session& session,
                             const text::Tokenizer* tokenizer) {
  engine::Request request;
  request.id = 1;
  if (flags.ids) {
    request.prompt_ids = parse_ids(*flags.ids, "--ids");
  } else {
    request.prompt_ids = tokenizer->encode(*flags.prompt, {});
    if (request.prompt_ids.empty()) fail(ErrorKind::kInvalidArgument, "--prompt gives no tokens");
  }
  request.parameters = read_parameters(flags).resolve(session.model.directory.info(),
                                                      session.model.decoder->config().vocab_size,
                                                      static_cast<std::int64_t>(request.prompt_ids.size()));
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
  engine::Request request = make_request(flags, session, tokenizer.get());
  const generation::Parameters parameters = request.parameters;

  engine::EngineOptions options = host::engine_options(session.options);
  options.max_rolling_batch_size = std::max(options.max_rolling_batch_size, parameters.n);
  engine::Engine engine(*session.device, *session.model.decoder, options);
  const bool streaming = !flags.model.json && parameters.n == 1 && tokenizer != nullptr;
  Collector collector(parameters.n, tokenizer.get(), streaming);
  engine.submit(std::move(request));
  while (engine.step(collector)) {
  }
  collector.finish();
  for (const Sequence& sequence : collector.sequences()) {
    if (sequence.finish == generation::FinishReason::kError)
      fail(ErrorKind::kInternal, "generation failed: {}", sequence.error);
    if (!sequence.finish) fail(ErrorKind::kInternal, "generation stopped without an end");
  }
  const std::string answer =
      flags.model.json ? answer_json(collector.sequences(), tokenizer.get(), parameters.top_n_tokens > 0)
      : streaming      ? std::string()
                       : answer_text(collector.sequences(), tokenizer.get());
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
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt");
  flags->model.add_to(*command, false);
  command->add_option("--prompt", flags->prompt, "Text to continue");
  command->add_option("--ids", flags->ids, "Token ids to continue, such as 1,2,3; needs no tokenizer");
  command->add_option("--max-new-tokens", flags->max_new_tokens,
                      "Longest answer in tokens (default: the model's, or 30)");
  command->add_flag("--greedy", flags->greedy, "Always take the most likely token (do_sample=false)");
  command->add_option("--param", flags->parameters, "NAME=VALUE: a generation parameter, the value as JSON")
      ->allow_extra_args(false);
  command->footer(parameter_help);
  command->callback([flags] { generate(*flags); });
}

}  // namespace peregrine::cli
