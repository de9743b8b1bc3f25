// SPDX-License-Identifier: Apache-2.0
#include "api/json_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/log.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using core::ErrorKind;

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  return std::ranges::equal(text, lower, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
  });
}

/// The integer that a value stands for: 4, or 4.0 as some clients write it.
std::optional<std::int64_t> as_integer(const value& found) {
  constexpr double kExact = 9007199254740992.0;  // 2^53: doubles beyond it no longer tell integers apart.
  if (found.is_int64()) return found.get_int64();
  if (!found.is_double()) return std::nullopt;
  const double number = found.get_double();
  if (!(std::abs(number) <= kExact) || number != std::trunc(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

/// Whether a value is the one that turns a feature off.
bool is_off(const value& found) {
  switch (found.kind()) {
    case boost::json::kind::null:
      return true;
    case boost::json::kind::bool_:
      return !found.get_bool();
    case boost::json::kind::string:
      return found.get_string().empty();
    case boost::json::kind::array:
      return found.get_array().empty();
    case boost::json::kind::object:
      return found.get_object().empty();
    default:
      return found.to_number<double>() == 0;
  }
}

[[noreturn]] void fail_with(const std::string& field, ErrorKind kind, const std::string& message) {
  throw FieldError(kind, field, message);
}

void check_length(const ServedModel& model, std::size_t size, const std::string& field) {
  if (size == 0) {
    fail_with(field, ErrorKind::kInvalidArgument,
              fmt::format("{} has no tokens; it must have at least one", field));
  }
  const std::int64_t room = model.model->limits().max_model_length;
  if (static_cast<std::int64_t>(size) < room) return;
  if (model.model->limits().encoder_decoder) {
    if (static_cast<std::int64_t>(size) == room) return;
    fail_with(field, ErrorKind::kInvalidArgument,
              fmt::format("{} has {} tokens; the model's encoder takes at most {} (max_model_len)", field,
                          size, room));
  }
  fail_with(field, ErrorKind::kInvalidArgument,
            fmt::format("{} has {} tokens; the model's context of {} tokens (max_model_len) has room for at "
                        "most {}, so that one can be generated",
                        field, size, room, room - 1));
}

}  // namespace

std::string Fields::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const value* Fields::find(std::string_view name) const {
  const value* found = object_->if_contains(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

std::optional<bool> Fields::boolean(std::string_view name) const {
  const value* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (found->is_bool()) return found->get_bool();
  if (found->is_string()) {
    if (equals_ignoring_case(found->get_string(), "true")) return true;
    if (equals_ignoring_case(found->get_string(), "false")) return false;
  }
  fail_field(path(name), "true or false", *found);
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t low,
                                            std::int64_t high) const {
  const value* found = find(name);
  if (found == nullptr) return std::nullopt;
  const auto number = as_integer(*found);
  if (!number || *number < low || *number > high) {
    fail_field(path(name), fmt::format("an integer from {} to {}", low, high), *found);
  }
  return number;
}

std::optional<double> Fields::number(std::string_view name, double low, double high) const {
  const value* found = find(name);
  if (found == nullptr) return std::nullopt;
  const double number =
      found->is_number() ? found->to_number<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(number >= low && number <= high)) {
    fail_field(path(name), fmt::format("a number in [{:g}, {:g}]", low, high), *found);
  }
  return number;
}

std::optional<std::string_view> Fields::string(std::string_view name) const {
  const value* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_string()) fail_field(path(name), "a string", *found);
  return found->get_string();
}

std::optional<std::string_view> Fields::one_of(std::string_view name,
                                               std::span<const std::string_view> allowed) const {
  const value* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (found->is_string()) {
    const std::string_view text = found->get_string();
    if (std::ranges::find(allowed, text) != allowed.end()) return text;
  }
  fail_field(path(name), fmt::format("one of '{}'", fmt::join(allowed, "', '")), *found);
}

const boost::json::object* Fields::object(std::string_view name) const {
  const value* found = find(name);
  if (found == nullptr) return nullptr;
  if (!found->is_object()) fail_field(path(name), "an object", *found);
  return &found->get_object();
}

const boost::json::array* Fields::array(std::string_view name, std::size_t most) const {
  const value* found = find(name);
  if (found == nullptr) return nullptr;
  if (!found->is_array() || found->get_array().size() > most) {
    fail_field(path(name), fmt::format("a list of at most {} elements", most), *found);
  }
  return &found->get_array();
}

void Fields::refuse(std::string_view name, std::string_view why) const {
  const value* found = find(name);
  if (found == nullptr || is_off(*found)) return;
  const std::string field = path(name);
  fail_with(field, ErrorKind::kUnsupported,
            fmt::format("{} is not supported yet ({}); leave it out", field, why));
}

void log_unknown_field(const ServedModel& model, std::string_view field) {
  if (model.unknown_fields == nullptr || !model.unknown_fields->is_new(field)) return;
  spdlog::warn("model {}: requests have the unknown field {}, which is passed over", model.model->name(),
               core::quoted(field));
}

void read_stop_strings(const Fields& fields, std::string_view name, std::vector<std::string>& stop) {
  const value* found = fields.find(name);
  if (found == nullptr) return;
  const auto add = [&](const value& item, const std::string& field) {
    if (!item.is_string() || item.get_string().empty() || item.get_string().size() > kMaxStopBytes) {
      fail_field(field, fmt::format("a string of 1 to {} bytes", kMaxStopBytes), item);
    }
    stop.emplace_back(item.get_string());
  };
  const std::string field = fields.path(name);
  if (found->is_string()) {
    add(*found, field);
  } else {
    if (!found->is_array() || found->get_array().size() > kMaxStopStrings) {
      fail_field(field, fmt::format("a string or a list of at most {} strings", kMaxStopStrings), *found);
    }
    std::size_t i = 0;
    for (const value& item : found->get_array()) add(item, fmt::format("{}[{}]", field, i++));
  }
  check_stop_strings(stop, field);
}

void check_stop_strings(std::span<const std::string> stop, const std::string& field) {
  if (stop.size() <= kMaxStopStrings) return;
  fail_with(field, ErrorKind::kInvalidArgument,
            fmt::format("{} makes {} stop strings together with the other fields for them; at most {} are "
                        "allowed",
                        field, stop.size(), kMaxStopStrings));
}

bool ParameterFields::set(std::string_view name, const value& found, std::string field) {
  const auto table = generation::parameter_table();
  const auto info = std::ranges::find_if(table, [&](const generation::ParameterInfo& entry) {
    return entry.name == name || std::ranges::find(entry.aliases, name) != entry.aliases.end();
  });
  if (info == table.end()) return false;
  try {
    set_.set(name, found);
  } catch (const core::Error& error) {
    rethrow(error, field);
  }
  if (!found.is_null()) fields_.insert_or_assign(std::string(info->name), std::move(field));
  return true;
}

generation::Parameters ParameterFields::resolve(const ServedModel& model, std::size_t prompt_size) const {
  const serving::Limits limits = model.model->limits();
  const auto prompt = limits.encoder_decoder ? 1 : static_cast<std::int64_t>(prompt_size);
  generation::Parameters parameters;
  try {
    parameters = set_.resolve(model.model->directory().info(), limits.vocab_size, prompt);
  } catch (const core::Error& error) {
    rethrow(error, "");
  }
  if (const std::int32_t sequences = parameters.computed_sequences(); sequences > limits.max_sequences) {
    const bool beams = parameters.num_beams > 1;
    const std::string field = field_of(beams ? "num_beams" : sequences > parameters.n ? "best_of" : "n");
    fail_with(field, ErrorKind::kInvalidArgument,
              fmt::format("{} must be at most {} (max_rolling_batch_size), found {}", field,
                          limits.max_sequences, sequences));
  }
  const std::int64_t room = std::max<std::int64_t>(limits.max_model_length - prompt, 1);
  parameters.max_new_tokens =
      static_cast<std::int32_t>(std::min<std::int64_t>(parameters.max_new_tokens, room));
  return parameters;
}

std::string ParameterFields::field_of(std::string_view parameter) const {
  const auto found = fields_.find(parameter);
  if (found != fields_.end()) return found->second;
  // best_of stands for n where that is not given.
  if (parameter == "n" && fields_.contains("best_of")) return fields_.at("best_of");
  return std::string(parameter);
}

void ParameterFields::check_streamed(const generation::Parameters& resolved) const {
  const auto refuse = [&](std::string_view parameter, std::string_view allowed, std::int32_t found) {
    const std::string field = field_of(parameter);
    fail_with(
        field, ErrorKind::kInvalidArgument,
        fmt::format("{} must be {} in a streamed answer, found {}{}: which sequence is returned is known "
                    "only at the end; set {} to it, or do not stream",
                    field, allowed, found, has(parameter) ? "" : " in the model's generation_config.json",
                    field));
  };
  if (resolved.num_beams > 1) refuse("num_beams", "1", resolved.num_beams);
  if (resolved.best_of > resolved.n) refuse("best_of", fmt::format("n, {},", resolved.n), resolved.best_of);
}

void ParameterFields::rethrow(const core::Error& error, std::string_view field) const {
  // Messages begin with "parameter 'NAME'", with NAME as it was given to the set.
  constexpr std::string_view kPrefix = "parameter '";
  const std::string message = error.what();
  if (!message.starts_with(kPrefix)) {
    const std::string named(field.empty() ? "parameters" : field);
    throw FieldError(error.kind(), named, fmt::format("{}: {}", named, message));
  }
  const std::size_t end = message.find('\'', kPrefix.size());
  const std::string_view name = std::string_view(message).substr(kPrefix.size(), end - kPrefix.size());
  const std::string named = field.empty() ? field_of(name) : std::string(field);
  throw FieldError(error.kind(), named, named + message.substr(end + 1));
}

std::optional<std::int32_t> decoder_start(const ServedModel& model) {
  if (!model.model->limits().encoder_decoder) return std::nullopt;
  return model.model->directory().info().decoder_start();
}

void check_scores_prompts(const ServedModel& model, const std::string& field) {
  if (!model.model->limits().encoder_decoder) return;
  fail_with(field, ErrorKind::kUnsupported,
            fmt::format("{} is not supported by model {}: an encoder reads its prompts, which gives no "
                        "log-probabilities; leave it out",
                        field, model.model->name()));
}

std::vector<std::int32_t> encode_prompt(const ServedModel& model, std::string_view text,
                                        const std::string& field, const PromptOptions& options) {
  if (model.tokenizer == nullptr) {
    core::fail(ErrorKind::kUnsupported, "model {} has no tokenizer, so it takes no text",
               model.model->name());
  }
  const auto room =
      static_cast<std::size_t>(std::max<std::int64_t>(model.model->limits().max_model_length, 1));
  const std::size_t most = model.longest_token * room;
  if (model.longest_token > 0 && !options.truncate && text.size() > most) {
    fail_with(
        field, ErrorKind::kInvalidArgument,
        fmt::format("{} has {} bytes; the model's context of {} tokens (max_model_len) cannot hold more "
                    "than {}",
                    field, text.size(), room, most));
  }
  text::Tokenizer::EncodeOptions how{.add_special_tokens = options.add_special,
                                     .parse_special = options.parse_special};
  const bool cut_by_tokenizer = options.truncate && model.model->limits().encoder_decoder;
  if (cut_by_tokenizer) how.max_tokens = static_cast<std::size_t>(*options.truncate);
  std::vector<std::int32_t> ids = model.tokenizer->encode(text, how);
  if (options.truncate && !cut_by_tokenizer) {
    truncate_prompt(model, ids, static_cast<std::size_t>(*options.truncate));
  }
  check_length(model, ids.size(), field);
  return ids;
}

void truncate_prompt(const ServedModel& model, std::vector<std::int32_t>& ids, std::size_t most) {
  if (ids.size() <= most) return;
  if (!model.model->limits().encoder_decoder) {
    ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(most));
    return;
  }
  const std::int32_t last = ids.back();
  ids.resize(most);
  const auto& ends = model.model->directory().info().eos_token_ids;
  if (most > 0 && std::ranges::find(ends, last) != ends.end()) ids.back() = last;
}

void check_prompt(const ServedModel& model, std::span<const std::int32_t> ids, const std::string& field) {
  check_length(model, ids.size(), field);
  const std::int64_t vocab_size = model.model->limits().vocab_size;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    const std::string named = fmt::format("{}[{}]", field, i);
    fail_with(named, ErrorKind::kInvalidArgument,
              fmt::format("{} must be a token id from 0 to {}, found {}", named, vocab_size - 1, ids[i]));
  }
}

}  // namespace peregrine::api
