// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/session.h"
#include "core/error.h"
#include "engine/score.h"

namespace peregrine::cli {
namespace {

struct LogitsFlags {
  ModelFlags model;
  std::string ids;
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

void logits(const LogitsFlags& flags) {
  const std::vector<std::int32_t> ids = parse_ids(flags.ids, "--ids");
  Session session = open_session(flags.model, read_options(flags.model));
  const std::int64_t vocab_size = session.model.decoder->config().vocab_size;
  const std::vector<float> values =
      engine::compute_logits(*session.device, *session.model.decoder, ids, flags.all);
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
  command->add_flag("--all", flags->all, "Logits at every position, not only the last");
  command->callback([flags] { logits(*flags); });
}

}  // namespace peregrine::cli
