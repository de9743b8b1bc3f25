// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "core/error.h"
#include "engine/encoder_engine.h"
#include "engine/score.h"

namespace peregrine::cli {
namespace {

struct LogitsFlags {
  ModelFlags model;
  std::string ids;
  std::string decoder_ids;
  bool all = false;
};

std::string logits_json(std::span<const float> logits, std::int64_t vocab_size, bool all) {
  if (!all) return "{\"logits\":" + json_array(logits) + "}\n";
  std::string out = "{\"logits\":[";
  const auto width = static_cast<std::size_t>(vocab_size);
  for (std::size_t at = 0; at < logits.size(); at += width) {
    out += (at > 0 ? "," : "") + json_array(logits.subspan(at, width));
  }
  return out + "]}\n";
}

/// The ten highest logits of each position, for reading.
std::string logits_table(std::span<const float> logits, std::int64_t vocab_size) {
  constexpr std::size_t kShown = 10;
  const auto width = static_cast<std::size_t>(vocab_size);
  std::vector<std::size_t> order(width);
  std::string out;
  for (std::size_t at = 0; at < logits.size(); at += width) {
    const auto row = logits.subspan(at, width);
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::size_t shown = std::min(kShown, width);
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
        [&](std::size_t a, std::size_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    for (std::size_t i = 0; i < shown; ++i) out += fmt::format("{:>8} {:12.6f}\n", order[i], row[order[i]]);
    if (at + width < logits.size()) out += '\n';
  }
  return out;
}

/// Of an encoder with a classifier.
std::vector<float> class_scores(const Session& session, std::vector<std::int32_t> ids) {
  engine::EncoderEngine engine(*session.device, encoder_of(session), host::engine_options(session.options));
  engine::EncodeRequest request;
  request.id = 1;
  request.kind = generation::EncodeKind::kClassify;
  request.ids = std::move(ids);
  engine.submit(std::move(request));
  std::vector<float> scores;
  while (engine.step([&](engine::RequestId, std::span<const float> values) {
    scores.assign(values.begin(), values.end());
  })) {
  }
  return scores;
}

void print_scores(const LogitsFlags& flags, const std::vector<float>& scores) {
  const auto classes = static_cast<std::int64_t>(scores.size());
  const std::string out =
      flags.model.json ? logits_json(scores, classes, false) : logits_table(scores, classes);
  std::fwrite(out.data(), 1, out.size(), stdout);
}

void logits(const LogitsFlags& flags) {
  std::vector<std::int32_t> ids = parse_ids(flags.ids, "--ids"), encoder_ids;
  std::vector<std::int32_t> decoder_ids;
  if (!flags.decoder_ids.empty()) decoder_ids = parse_ids(flags.decoder_ids, "--decoder-ids");
  Session session = open_session(flags.model, read_options(flags.model));
  const bool has_both = session.model.decoder && session.model.encoder;
  if (!has_both && !decoder_ids.empty()) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "--decoder-ids is for encoder-decoder models; this is none");
  }
  if (!session.model.decoder) return print_scores(flags, class_scores(session, std::move(ids)));
  if (has_both) {
    encoder_ids = std::move(ids);
    ids = decoder_ids.empty() ? std::vector{session.model.directory.info().decoder_start()}
                              : std::move(decoder_ids);
  }
  const std::vector<float> values =
      engine::compute_logits(*session.device, session.model, {ids, encoder_ids}, flags.all);
  const std::int64_t vocab_size = session.model.decoder->config().vocab_size;
  const std::string out =
      flags.model.json ? logits_json(values, vocab_size, flags.all) : logits_table(values, vocab_size);
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace

void add_logits(CLI::App& app) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* command = app.add_subcommand("logits", "The model's logits after a list of token ids");
  flags->model.add_to(*command, false);
  command->add_option("--ids", flags->ids, "Token ids, such as 1,2,3")->required();
  command->add_option("--decoder-ids", flags->decoder_ids,
                      "What an encoder-decoder's answer begins with (default: its start token); --ids is "
                      "its text then");
  command->add_flag("--all", flags->all, "Logits at every position, not only the last");
  command->callback([flags] { logits(*flags); });
}

}  // namespace peregrine::cli
