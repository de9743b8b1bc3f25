// SPDX-License-Identifier: Apache-2.0
#include "api/encoder_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "api/errors.h"
#include "api/model_text.h"
#include "core/json.h"
#include "text/aligned_text.h"
#include "text/unicode.h"

namespace peregrine::api {
namespace {

using configuration::Task;
using core::ErrorKind;
using core::JsonView;
using generation::Pooling;

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMostLabels = 100'000;

[[noreturn]] void fail_with(const std::string& field, ErrorKind kind, const std::string& message) {
  throw FieldError(kind, field, message);
}

/// id2label: {"0": "NEGATIVE", "1": "POSITIVE"}.
std::vector<std::string> read_labels(const JsonView& config) {
  std::vector<std::string> labels;
  const auto names = config.find("id2label");
  if (!names || !names->is_object()) return labels;
  for (const auto& [key, name] : names->members()) {
    std::size_t id = 0;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || stop != key.data() + key.size() || id >= kMostLabels || !name.is_string()) {
      continue;
    }
    if (labels.size() <= id) labels.resize(id + 1);
    labels[id] = name.as_string();
  }
  return labels;
}

std::optional<ScoreFunction> read_class_function(const JsonView& config) {
  const auto type = config.find("problem_type");
  if (!type) return std::nullopt;
  const std::string_view name = type->as_string();
  if (name == "single_label_classification") return ScoreFunction::kSoftmax;
  if (name == "multi_label_classification") return ScoreFunction::kSigmoid;
  if (name == "regression") return ScoreFunction::kNone;
  type->fail_expected("single_label_classification, multi_label_classification or regression");
}

/// The activation that sentence-transformers' CrossEncoder notes in config.json, in one of two places.
ScoreFunction read_pair_function(const JsonView& config) {
  auto found = config.find("sbert_ce_default_activation_function");
  if (const auto section = config.find("sentence_transformers"); section && section->is_object()) {
    if (const auto newer = section->find("activation_fn")) found = newer;
  }
  if (!found) return ScoreFunction::kSigmoid;
  const std::string_view name = found->as_string();
  if (name.ends_with(".Identity")) return ScoreFunction::kNone;
  if (name.ends_with(".Sigmoid")) return ScoreFunction::kSigmoid;
  core::fail(ErrorKind::kUnsupported, "{}: {} is not supported; there are Identity and Sigmoid",
             found->where(), core::quoted(name));
}

void read_dimensions(const JsonView& config, EncoderText& out) {
  if (const auto any = config.find("is_matryoshka")) out.any_dimensions = any->as_bool();
  if (const auto list = config.find("matryoshka_dimensions")) {
    for (const JsonView& item : list->items()) out.dimensions.push_back(item.as_int(1, kMaxInt));
    out.any_dimensions = false;
  }
}

const EncoderText& encoder_of(const ServedModel& model) {
  if (!model.encoder) {
    core::fail(ErrorKind::kInternal, "model {} was served without the facts of its encoder",
               model.model->name());
  }
  return *model.encoder;
}

void require_tokenizer(const ServedModel& model, const std::string& field) {
  if (model.tokenizer != nullptr) return;
  fail_with(field, ErrorKind::kUnsupported,
            fmt::format("model {} has no tokenizer, so it takes no text; it takes token ids as input of "
                        "/v1/embeddings",
                        model.model->name()));
}

/// To how many tokens a text is cut; nothing where it is not.
std::optional<std::size_t> tokens_to_keep(const ServedModel& model, const EncodeTextOptions& options) {
  if (!options.truncate.value_or(encoder_of(model).truncates)) return std::nullopt;
  const std::int64_t longest = longest_text(model);
  return static_cast<std::size_t>(std::clamp<std::int64_t>(options.max_tokens.value_or(longest), 1, longest));
}

void check_length(const ServedModel& model, std::size_t size, const std::string& field) {
  if (size == 0) {
    fail_with(field, ErrorKind::kInvalidArgument,
              fmt::format("{} has no tokens; it must have at least one", field));
  }
  const std::int64_t longest = longest_text(model);
  if (static_cast<std::int64_t>(size) <= longest) return;
  fail_with(field, ErrorKind::kInvalidArgument,
            fmt::format("{} has {} tokens; model {} takes at most {}: shorten it, or ask for truncation",
                        field, size, model.model->name(), longest));
}

/// What the tokenizer gave, as the model takes it.
EncodeInput as_input(const ServedModel& model, text::Tokenizer::PairEncoding encoding,
                     const std::string& field) {
  check_length(model, encoding.ids.size(), field);
  return {std::move(encoding.ids), encoder_of(model).known_types(std::move(encoding.token_types))};
}

/// Errors of the tokenizer speak of texts; the client has fields.
template <typename Encode>
EncodeInput encode_named(const ServedModel& model, const std::string& field, const Encode& encode) {
  try {
    return as_input(model, encode(), field);
  } catch (const FieldError&) {
    throw;
  } catch (const core::Error& error) {
    throw FieldError(error.kind(), field, fmt::format("{}: {}", field, error.what()));
  }
}

/// "embeds texts (/v1/embeddings, ...)"
std::string abilities(const ServedModel& model) {
  const serving::Limits limits = model.model->limits();
  if (limits.generates()) return "generates text (/invocations, /v1/completions, /v1/chat/completions)";
  const Task task = model.model->options().task;
  std::vector<std::string> can;
  if (task == Task::kAuto || task == Task::kEmbed) can.emplace_back("embeds texts (/v1/embeddings)");
  if (limits.labels > 0 && (task == Task::kAuto || task == Task::kClassify)) {
    can.push_back(fmt::format("classifies texts into {} label{} (/invocations)", limits.labels,
                              limits.labels == 1 ? "" : "s"));
  }
  if (limits.labels == 1 && (task == Task::kAuto || task == Task::kRerank)) {
    can.emplace_back("scores pairs of texts (/v1/rerank)");
  }
  return fmt::format("{}", fmt::join(can, ", "));
}

std::string_view name_of(Task task) {
  switch (task) {
    case Task::kAuto:
      break;
    case Task::kGenerate:
      return "generate text";
    case Task::kEmbed:
      return "embed texts";
    case Task::kClassify:
      return "classify texts";
    case Task::kRerank:
      return "rerank texts";
  }
  return "do this";
}

bool can_do(const serving::Limits& limits, Task wanted) {
  if (limits.generates() || wanted == Task::kGenerate) return limits.generates() && wanted == Task::kGenerate;
  if (wanted == Task::kRerank) return limits.labels == 1;
  return wanted == Task::kEmbed || limits.labels > 0;
}

}  // namespace

std::string EncoderText::label(std::size_t index) const {
  return index < labels.size() && !labels[index].empty() ? labels[index] : fmt::format("LABEL_{}", index);
}

std::string EncoderText::prepared(std::string_view prompt, std::string_view text) const {
  std::string whole = std::string(prompt) + std::string(text);
  if (!lower_case) return whole;
  text::AlignedText lower(text::to_valid_utf8(whole), 0, false);
  lower_case->normalize(lower);
  return std::string(lower.text());
}

std::vector<std::int32_t> EncoderText::known_types(std::vector<std::int32_t> types) const {
  const auto highest = std::ranges::max_element(types);
  const bool tells = highest != types.end() && *highest > 0 && *highest < token_types;
  if (!tells) types.clear();
  return types;
}

std::optional<Pooling> pooling_named(std::string_view name) {
  if (name == "mean") return Pooling::kMean;
  if (name == "cls") return Pooling::kCls;
  if (name == "lasttoken" || name == "last") return Pooling::kLast;
  return std::nullopt;
}

EncoderText read_encoder_text(const model_info::ModelDirectory& directory,
                              const configuration::ModelOptions& options,
                              std::optional<std::size_t> tokenizer_truncation) {
  EncoderText out;
  // A decoder may come with sentence-transformers' files that ask for more than is here, and still generate.
  const bool embeds = options.task == Task::kAuto || options.task == Task::kEmbed;
  if (auto files = embeds ? read_sentence_transformers(directory.path()) : std::nullopt) {
    out.pooling = files->pooling;
    out.normalize = files->normalize;
    out.max_tokens = files->max_tokens;
    if (!out.max_tokens && tokenizer_truncation) {
      out.max_tokens = static_cast<std::int64_t>(*tokenizer_truncation);
    }
    out.truncates = tokenizer_truncation.has_value();
    out.prompts = std::move(files->prompts);
    out.default_prompt = std::move(files->default_prompt);
    out.pools_prompt = files->pools_prompt;
    if (files->lower_case) {
      const boost::json::value lower = {{"type", "Lowercase"}};
      out.lower_case = text::make_normalizer(JsonView(lower, "do_lower_case"));
    }
  }
  if (const auto pooling = pooling_named(options.pooling)) out.pooling = *pooling;
  out.normalize = options.normalize.value_or(out.normalize);
  const JsonView config = directory.config();
  const auto types = config.find("type_vocab_size");
  if (types && types->is_integer()) out.token_types = types->as_int(0, kMaxInt);
  out.labels = read_labels(config);
  out.class_function = read_class_function(config);
  out.pair_function = read_pair_function(config);
  read_dimensions(config, out);
  return out;
}

std::int64_t longest_text(const ServedModel& model) {
  const std::int64_t longest = model.model->limits().max_model_length;
  return std::min(longest, encoder_of(model).max_tokens.value_or(longest));
}

EncodeInput encode_text(const ServedModel& model, std::string_view text, const std::string& field,
                        const EncodeTextOptions& options) {
  require_tokenizer(model, field);
  return encode_named(model, field, [&] {
    return model.tokenizer->encode_with_types(
        encoder_of(model).prepared(options.prompt, text),
        {.add_special_tokens = options.add_special, .max_tokens = tokens_to_keep(model, options)});
  });
}

EncodeInput encode_text_pair(const ServedModel& model, std::string_view first, std::string_view second,
                             const std::string& field, const EncodeTextOptions& options) {
  require_tokenizer(model, field);
  return encode_named(model, field, [&] {
    const EncoderText& encoder = encoder_of(model);
    return model.tokenizer->encode_pair(
        encoder.prepared(options.prompt, first), encoder.prepared("", second),
        {.add_special_tokens = options.add_special, .max_tokens = tokens_to_keep(model, options)});
  });
}

EncodeInput encode_ids(const ServedModel& model, const boost::json::array& ids, const std::string& field,
                       const EncodeTextOptions& options) {
  const std::int64_t vocab_size = model.model->limits().vocab_size;
  const std::size_t keep = tokens_to_keep(model, options).value_or(ids.size());
  EncodeInput input;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const boost::json::value& id = ids[i];
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= vocab_size) {
      fail_field(fmt::format("{}[{}]", field, i), fmt::format("a token id from 0 to {}", vocab_size - 1), id);
    }
    if (i < keep) input.ids.push_back(static_cast<std::int32_t>(id.get_int64()));
  }
  check_length(model, input.ids.size(), field);
  return input;
}

void require_task(const ServedModel& model, Task wanted) {
  const Task task = model.model->options().task;
  const bool served = task == Task::kAuto || task == wanted;
  if (served && can_do(model.model->limits(), wanted)) return;
  fail_with(
      "model", ErrorKind::kUnsupported,
      fmt::format("model {} does not {}; it {}", model.model->name(), name_of(wanted), abilities(model)));
}

Task task_of(const ServedModel& model) {
  const Task task = model.model->options().task;
  if (task != Task::kAuto) return task;
  return model.model->limits().labels > 0 ? Task::kClassify : Task::kEmbed;
}

}  // namespace peregrine::api
