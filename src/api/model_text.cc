// SPDX-License-Identifier: Apache-2.0
#include "api/model_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/log.h"

namespace peregrine::api {
namespace {

// Compatibility forms (NFKC) make one byte of at most four: U+1D400 of 'A'.
constexpr std::size_t kNormalizationFactor = 4;

void load_template(ServedModel& served, const std::filesystem::path& directory, const std::string& chosen) {
  const std::string& name = served.model->name();
  try {
    if (auto found = text::load_model_template(directory, chosen)) {
      served.chat_template = std::make_shared<const text::ModelTemplate>(std::move(*found));
      return;
    }
    served.chat_template_error = fmt::format(
        "model {} has no chat template, so it takes no messages; give it one with option.chat_template",
        name);
  } catch (const core::Error& error) {
    if (error.kind() != core::ErrorKind::kUnsupported || !chosen.empty()) throw;
    served.chat_template_error =
        fmt::format("the chat template of model {} is not supported: {}", name, error.what());
    spdlog::warn("{}", served.chat_template_error);
  }
}

/// Whether the architecture's name is one of an encoder that stands alone.
bool is_encoder(const model_info::ModelInfo& info) {
  const std::string& name = info.architecture;
  return name.ends_with("ForSequenceClassification") || name.ends_with("ForMaskedLM") ||
         name.ends_with("ForPreTraining") || (name.ends_with("Model") && !name.ends_with("LMHeadModel"));
}

void load_tokenizer(ServedModel& served) {
  const model_info::ModelDirectory& directory = served.model->directory();
  try {
    served.tokenizer = text::Tokenizer::load(directory.path());
  } catch (const core::Error& error) {
    if (error.kind() != core::ErrorKind::kNotFound || !is_encoder(directory.info())) throw;
    spdlog::warn("model {} takes token ids only: {}", served.model->name(), error.what());
    return;
  }
  served.longest_token = longest_token_bytes(*served.tokenizer);
  auto bytes = std::make_shared<std::vector<std::string>>();
  for (std::int32_t id = 0; id < served.tokenizer->vocab_size(); ++id) {
    bytes->push_back(served.tokenizer->token_bytes(id));
  }
  served.model->set_vocabulary(std::move(bytes));
}

}  // namespace

ServedModel load_text(serving::Model& model) {
  ServedModel served;
  served.model = &model;
  const std::filesystem::path& directory = model.directory().path();
  load_tokenizer(served);
  const auto truncation = served.tokenizer ? served.tokenizer->truncation_length() : std::nullopt;
  served.encoder =
      std::make_shared<const EncoderText>(read_encoder_text(model.directory(), model.options(), truncation));
  served.unknown_fields = std::make_shared<SeenNames>();
  load_template(served, directory, model.options().chat_template);
  return served;
}

std::size_t longest_token_bytes(const text::Tokenizer& tokenizer) {
  // A token as the file writes it is never shorter than the text that it stands for: bytes are written as
  // characters of one or two bytes, a blank as one of three.
  std::size_t longest = 1;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (const auto token = tokenizer.token(id)) longest = std::max(longest, token->size());
  }
  return longest * kNormalizationFactor;
}

}  // namespace peregrine::api
