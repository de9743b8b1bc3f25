// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "engine/score.h"
#include "text/tokenizer.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::uint64_t kLargestText = std::uint64_t{1} << 30;

std::vector<std::int32_t> read_tokens(const Session& session, const std::string& text) {
  const std::filesystem::path& directory = session.model.directory.path();
  if (!std::filesystem::exists(directory / "config.json"))
    fail(ErrorKind::kUnsupported, "--perplexity needs a model directory: random weights have no tokenizer");
  const auto tokenizer = text::Tokenizer::load(directory);
  std::error_code no_file;
  const bool file = std::filesystem::is_regular_file(text, no_file);
  auto ids = tokenizer->encode(file ? core::read_file(text, kLargestText) : text, {});
  if (ids.size() < 2) {
    fail(ErrorKind::kInvalidArgument, "--perplexity needs a text of at least 2 tokens; {} {} has {}",
         file ? "the file" : "the text", core::quoted(text), ids.size());
  }
  return ids;
}

/// -log(softmax(logits)[id]), summed in double precision.
double negative_log_likelihood(std::span<const float> logits, std::int32_t id) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  return std::log(sum) + highest - logits[static_cast<std::size_t>(id)];
}

void choose_windows(const model::DecoderConfig& config, const PerplexityPlan& plan, Perplexity& out) {
  constexpr std::int64_t kUsual = 1024;  // All of a window's logits are in memory at once.
  out.context = plan.context > 0
                    ? plan.context
                    : static_cast<std::int32_t>(std::min<std::int64_t>(config.max_positions, kUsual));
  if (out.context < 2 || out.context > config.max_positions) {
    fail(ErrorKind::kInvalidArgument, "--context must be from 2 to the model's {} tokens and is {}",
         config.max_positions, out.context);
  }
  out.stride = plan.stride > 0 ? plan.stride : std::max(1, out.context / 2);
  // A later window's first token has nothing before it to be predicted from.
  if (out.stride >= out.context) {
    fail(ErrorKind::kInvalidArgument, "--stride must be from 1 to {}, below the context, and is {}",
         out.context - 1, out.stride);
  }
}

}  // namespace

Perplexity measure_perplexity(const Session& session, const PerplexityPlan& plan) {
  const model::Decoder& decoder = decoder_of(session);
  if (session.model.encoder) {
    fail(ErrorKind::kUnsupported,
         "--perplexity is for decoder-only models; {} has an encoder, which would need a text of its own",
         session.model.directory.info().architecture);
  }
  Perplexity out;
  choose_windows(decoder.config(), plan, out);
  const std::vector<std::int32_t> ids = read_tokens(session, plan.text);
  const auto width = static_cast<std::size_t>(decoder.config().vocab_size);
  const auto start = std::chrono::steady_clock::now();
  double sum = 0;
  std::size_t scored = 1;  // The next token to count; the first has nothing before it.
  for (std::size_t begin = 0; scored < ids.size(); begin += static_cast<std::size_t>(out.stride)) {
    const std::size_t end = std::min(ids.size(), begin + static_cast<std::size_t>(out.context));
    const auto window = std::span(ids).subspan(begin, end - begin);
    const std::vector<float> logits = engine::compute_logits(*session.device, decoder, window, true);
    for (; scored < end; ++scored) {
      const auto row = std::span(logits).subspan((scored - 1 - begin) * width, width);
      sum += negative_log_likelihood(row, ids[scored]);
    }
    ++out.windows;
  }
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  out.tokens = std::ssize(ids);
  out.scored = out.tokens - 1;
  out.mean_negative_log_likelihood = sum / static_cast<double>(out.scored);
  out.perplexity = std::exp(out.mean_negative_log_likelihood);
  return out;
}

}  // namespace peregrine::cli
