// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "core/error.h"
#include "core/json.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace peregrine::cli {
namespace {

struct TokenizerFlags {
  std::string model_dir;
  bool no_special = false;
  bool no_parse_special = false;
  bool skip_special = false;
  bool stream = false;
};

void write_line(std::string line) {
  line += '\n';
  // Flushed line by line: a caller may talk to us through a pipe.
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() || std::fflush(stdout) != 0) {
    core::fail(core::ErrorKind::kInternal, "cannot write to standard output");
  }
}

/// Calls `handle` with the parsed JSON of every line of standard input; blank lines are passed over.
void for_each_line(const std::function<void(const core::JsonView&)>& handle) {
  std::string line;
  for (std::size_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("input line {}", number);
    const auto document = core::parse_json(line, where);
    handle(core::JsonView(document, where));
  }
}

std::vector<std::int32_t> read_ids(const core::JsonView& line) {
  std::vector<std::int32_t> ids;
  for (const core::JsonView& item : line.items())
    ids.push_back(static_cast<std::int32_t>(item.as_int(0, INT32_MAX)));
  return ids;
}

void tokenize(const TokenizerFlags& flags) {
  const auto tokenizer = text::Tokenizer::load(flags.model_dir);
  const text::Tokenizer::EncodeOptions options{.add_special_tokens = !flags.no_special,
                                               .parse_special = !flags.no_parse_special};
  for_each_line([&](const core::JsonView& line) {
    write_line(json_array(tokenizer->encode(line.as_string(), options)));
  });
}

/// The text that each id of a stream adds; what is left at the end (a character cut short) is a last piece of
/// its own.
std::string stream_pieces(const text::Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                          bool skip_special) {
  text::StreamingDetokenizer detokenizer(tokenizer, skip_special);
  std::string out = "[";
  for (const std::int32_t id : ids) {
    if (out.size() > 1) out += ',';
    out += json_string(detokenizer.push(id));
  }
  const std::string rest = detokenizer.finish();
  if (!rest.empty()) out += (out.size() > 1 ? "," : "") + json_string(rest);
  return out + "]";
}

void detokenize(const TokenizerFlags& flags) {
  const auto tokenizer = text::Tokenizer::load(flags.model_dir);
  for_each_line([&](const core::JsonView& line) {
    const std::vector<std::int32_t> ids = read_ids(line);
    write_line(flags.stream ? stream_pieces(*tokenizer, ids, flags.skip_special)
                            : json_string(tokenizer->decode(ids, flags.skip_special)));
  });
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto flags = std::make_shared<TokenizerFlags>();
  CLI::App* command = app.add_subcommand(
      "tokenize", "Text to token ids: a JSON string a line in, an array of ids a line out");
  command->add_option("model_dir", flags->model_dir, "Hugging Face model directory with a tokenizer.json")
      ->required();
  command->add_flag("--no-special", flags->no_special, "Add no special tokens (beginning or end of text)");
  command->add_flag("--no-parse-special", flags->no_parse_special,
                    "Read special tokens written in the text as plain text");
  command->callback([flags] { tokenize(*flags); });
}

void add_detokenize(CLI::App& app) {
  auto flags = std::make_shared<TokenizerFlags>();
  CLI::App* command = app.add_subcommand(
      "detokenize", "Token ids to text: an array of ids a line in, a JSON string a line out");
  command->add_option("model_dir", flags->model_dir, "Hugging Face model directory with a tokenizer.json")
      ->required();
  command->add_flag("--skip-special", flags->skip_special, "Leave special tokens out of the text");
  command->add_flag("--stream", flags->stream,
                    "Write an array of the pieces that each id adds, as a stream would");
  command->callback([flags] { detokenize(*flags); });
}

}  // namespace peregrine::cli
