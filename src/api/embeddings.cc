// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>

#include "api/encoder_dialects.h"
#include "api/encoder_fields.h"
#include "api/json_output.h"

namespace peregrine::api {
namespace {

using boost::json::value;
using configuration::Task;
using core::ErrorKind;

constexpr auto kLmiFields = std::to_array<std::string_view>(
    {"inputs", "parameters", "model", "model_name", "normalize", "prompt_name"});
constexpr auto kLmiParameters = std::to_array<std::string_view>({"normalize", "pooling", "prompt_name"});
constexpr auto kOpenAiFields =
    std::to_array<std::string_view>({"input", "model", "model_name", "encoding_format", "dimensions", "user",
                                     "normalize", "pooling", "prompt_name", "priority", "request_id"});

void append_vector(std::span<const float> values, std::string& body) {
  body += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) body += ',';
    append_json_number(body, values[i]);
  }
  body += ']';
}

/// RFC 4648, section 4, of the values as float32, least significant byte first.
void append_base64(std::span<const float> values, std::string& body) {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(values);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = std::min<std::size_t>(bytes.size() - i, 3);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < left; ++k) {
      group |= std::to_integer<std::uint32_t>(bytes[i + k]) << (16 - 8 * k);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      body += k <= left ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
}

/// The first part of a Matryoshka embedding, of length 1 again where embeddings are.
void shorten(std::vector<float>& vector, std::size_t size, bool normalize) {
  vector.resize(size);
  if (!normalize) return;
  double sum = 0;
  for (const float element : vector) sum += double{element} * element;
  const double length = std::sqrt(sum);
  if (length == 0) return;
  for (float& element : vector) element = static_cast<float>(element / length);
}

std::size_t read_dimensions(const Fields& body, const ServedModel& model) {
  const std::int64_t full = model.model->limits().embedding_size;
  const auto asked = body.integer("dimensions", 1, std::numeric_limits<std::int32_t>::max());
  if (!asked || *asked == full) return static_cast<std::size_t>(full);
  const EncoderText& encoder = *model.encoder;
  const bool listed = std::ranges::find(encoder.dimensions, *asked) != encoder.dimensions.end();
  if (*asked < full && (encoder.any_dimensions || listed)) return static_cast<std::size_t>(*asked);
  if (encoder.any_dimensions)
    fail_field("dimensions", fmt::format("1 to {}", full), *body.find("dimensions"));
  if (!encoder.dimensions.empty()) {
    fail_field("dimensions", fmt::format("one of {}", fmt::join(encoder.dimensions, ", ")),
               *body.find("dimensions"));
  }
  throw FieldError(ErrorKind::kUnsupported, "dimensions",
                   fmt::format("dimensions must be {}, found {}: the embeddings of model {} cannot be "
                               "shortened (its config.json does not say is_matryoshka)",
                               full, *asked, model.model->name()));
}

/// OpenAI's input: a text, token ids, or a list of either.
class InputReader {
 public:
  InputReader(const ServedModel& model, EncodeTextOptions options)
      : model_(model), options_(std::move(options)) {}

  std::vector<EncodeInput> read(const Fields& body) {
    const value* input = body.find("input");
    if (input == nullptr) {
      throw FieldError(ErrorKind::kInvalidArgument, "input",
                       fmt::format("input is missing; it must be {}", kAllowed));
    }
    if (input->is_string()) {
      add_text(*input, "input");
    } else if (!input->is_array() || input->get_array().empty()) {
      fail_field("input", kAllowed, *input);
    } else if (input->get_array().front().is_number()) {
      inputs_.push_back(encode_ids(model_, input->get_array(), "input", options_));
    } else {
      add_list(input->get_array());
    }
    return std::move(inputs_);
  }

 private:
  static constexpr std::string_view kAllowed =
      "a string, a list of token ids, or a list of strings or of lists of token ids";

  void add_list(const boost::json::array& list) {
    const auto items = texts_of(list, "input");
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::string field = fmt::format("input[{}]", i);
      if (items[i].is_string()) {
        add_text(items[i], field);
      } else if (items[i].is_array()) {
        inputs_.push_back(encode_ids(model_, items[i].get_array(), field, options_));
      } else {
        fail_field(field, "a string or a list of token ids", items[i]);
      }
    }
  }

  void add_text(const value& text, const std::string& field) {
    inputs_.push_back(encode_text(model_, text.get_string(), field, options_));
  }

  const ServedModel& model_;
  EncodeTextOptions options_;
  std::vector<EncodeInput> inputs_;
};

}  // namespace

EncodePlan read_lmi_embedding(const boost::json::object& object, const ServedModel& model) {
  require_task(model, Task::kEmbed);
  const Fields body(object, "");
  const boost::json::object none;
  const auto* found = body.object("parameters");
  const Fields parameters(found == nullptr ? none : *found, "parameters");
  EncodePlan plan;
  read_embedding_options(parameters, model, plan);
  EncodeTextOptions options = read_lmi_text_options(body, parameters, model);
  plan.normalize = body.boolean("normalize").value_or(plan.normalize);
  options.prompt = read_prompt(body.find("prompt_name") != nullptr ? body : parameters, model);

  const value* inputs = body.find("inputs");
  if (inputs == nullptr) {
    throw FieldError(ErrorKind::kInvalidArgument, "inputs",
                     "inputs is missing; it must be a string or a list of strings");
  }
  if (inputs->is_string()) {
    plan.inputs.push_back(encode_text(model, inputs->get_string(), "inputs", options));
  } else if (inputs->is_array()) {
    const auto items = texts_of(inputs->get_array(), "inputs");
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::string field = fmt::format("inputs[{}]", i);
      if (!items[i].is_string()) fail_field(field, "a string", items[i]);
      plan.inputs.push_back(encode_text(model, items[i].get_string(), field, options));
    }
  } else {
    fail_field("inputs", "a string or a list of strings", *inputs);
  }
  log_unknown_members(body, model, kLmiFields);
  log_unknown_members(parameters, model, kLmiParameters);
  plan.write = [](EncodeAnswer& answer, std::string& out) {
    out += '[';
    for (std::size_t i = 0; i < answer.vectors.size(); ++i) {
      if (i > 0) out += ',';
      append_vector(answer.vectors[i], out);
    }
    out += "]\n";
  };
  return plan;
}

EncodePlan read_embeddings(const boost::json::object& object, const ServedModel& model) {
  require_task(model, Task::kEmbed);
  const Fields body(object, "");
  EncodePlan plan;
  plan.error_style = ErrorStyle::kOpenAi;
  read_embedding_options(body, model, plan);
  static constexpr std::array<std::string_view, 2> kFormats = {"float", "base64"};
  const bool base64 = body.one_of("encoding_format", kFormats) == "base64";
  const std::size_t dimensions = read_dimensions(body, model);
  for (const std::string_view name : {"model", "model_name", "user", "request_id"}) body.string(name);
  body.integer("priority", std::numeric_limits<std::int64_t>::min(),
               std::numeric_limits<std::int64_t>::max());
  EncodeTextOptions options = read_text_options(body, model);
  options.prompt = read_prompt(body, model);
  log_unknown_members(body, model, kOpenAiFields);
  plan.inputs = InputReader(model, std::move(options)).read(body);
  plan.write = [base64, dimensions, normalize = plan.normalize, name = model.model->name()](
                   EncodeAnswer& answer, std::string& out) {
    out += "{\"object\":\"list\",\"data\":[";
    for (std::size_t i = 0; i < answer.vectors.size(); ++i) {
      std::vector<float>& vector = answer.vectors[i];
      if (dimensions < vector.size()) shorten(vector, dimensions, normalize);
      fmt::format_to(std::back_inserter(out),
                     "{}{{\"object\":\"embedding\",\"index\":{},\"embedding\":", i > 0 ? "," : "", i);
      if (base64) {
        out += '"';
        append_base64(vector, out);
        out += '"';
      } else {
        append_vector(vector, out);
      }
      out += '}';
    }
    out += "],\"model\":";
    append_json_string(out, name);
    fmt::format_to(std::back_inserter(out), ",\"usage\":{{\"prompt_tokens\":{0},\"total_tokens\":{0}}}}}\n",
                   answer.tokens);
  };
  return plan;
}

}  // namespace peregrine::api
