// SPDX-License-Identifier: Apache-2.0
// Every field with every kind of wrong value: the request is refused with the name of the field, or taken,
// where that value is allowed. Nothing else happens.
#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "openai_fixture.h"

namespace peregrine::api {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

enum Type : unsigned {
  kNumber = 1,
  kString = 2,
  kBool = 4,
  kArray = 8,
  kObject = 16,
  kAnything = 31,
};

struct Field {
  const char* name;
  unsigned types;  ///< Which types of value may be allowed; others must be refused.
};

// Fields of both requests. Where a string is read as true or false, it is still none of these strings.
constexpr Field kCommonFields[] = {
    {"model", kString},
    {"user", kString},
    {"metadata", kObject},
    {"store", kBool},
    {"service_tier", kString},
    {"parallel_tool_calls", kBool},
    {"reasoning_effort", kString},
    {"priority", kNumber},
    {"temperature", kNumber},
    {"top_p", kNumber},
    {"top_k", kNumber},
    {"min_p", kNumber},
    {"n", kNumber},
    {"best_of", kNumber},
    {"seed", kNumber},
    {"max_tokens", kNumber},
    {"min_tokens", kNumber},
    {"presence_penalty", kNumber},
    {"frequency_penalty", kNumber},
    {"repetition_penalty", kNumber},
    {"stop", kString | kArray},
    {"stop_token_ids", kArray},
    {"ignore_eos", kBool},
    {"skip_special_tokens", kBool},
    {"include_stop_str_in_output", kBool},
    {"truncate_prompt_tokens", kNumber},
    {"add_special_tokens", kBool},
    {"stream", kBool},
    {"stream_options", kObject},
    {"response_format", kObject},
    {"echo", kBool | kNumber | kString | kArray | kObject},
    {"logit_bias", kAnything},
    {"use_beam_search", kBool},
    {"length_penalty", kNumber},
    {"early_stopping", kBool | kString},
    {"bad_words", kArray},
    {"prompt_logprobs", kNumber},
    {"something_unknown", kAnything},
};
constexpr Field kCompletionFields[] = {
    {"prompt", kString | kArray},
    {"logprobs", kNumber},
    {"suffix", kAnything},
};
// Fields whose values count only where the answer is not streamed.
constexpr Field kSequenceFields[] = {
    {"best_of", kNumber},         {"n", kNumber},        {"use_beam_search", kBool},
    {"prompt_logprobs", kNumber}, {"logprobs", kNumber},
};
constexpr Field kChatFields[] = {
    {"messages", kArray},
    {"messages[0].role", kString},
    {"messages[0].content", kString | kArray},
    {"messages[0].name", kString},
    {"messages[0].tool_calls", kArray},
    {"messages[0].content[0].type", kString},
    {"messages[0].content[0].text", kString},
    {"max_completion_tokens", kNumber},
    {"logprobs", kBool},
    {"top_logprobs", kNumber},
    {"tools", kArray},
    {"tool_choice", kString | kObject},
    {"functions", kAnything},
    {"function_call", kString},
    {"documents", kArray},
    {"add_generation_prompt", kBool},
    {"continue_final_message", kBool},
    {"chat_template", 0},
    {"chat_template_kwargs", kObject},
    {"modalities", kArray},
    {"audio", kAnything},
};

value nested(int depth) {
  value out = array{};
  for (int i = 0; i < depth; ++i) out = i % 2 == 0 ? value(array{out}) : value(object{{"a", out}});
  return out;
}

/// Values of every type, at and beyond the borders of types and ranges.
array wrong_values() {
  array out = boost::json::parse(R"([
      null, true, false, 0, 1, -1, 0.5, -0.5, 2.5, 1e300, -1e300, 1e-300, 2147483647, 2147483648,
      9007199254740992, 9223372036854775807, -9223372036854775808, 18446744073709551615, 1e20,
      "", "no such value", "true ", "1", "null", "\u0000", "\ud83c\udfad", [], {}, [null], [""], [-1],
      ["a", 1], [[]], [{}], [1e300], [true], {"type": 5}, {"": null}, {"type": "no such type"},
      {"include_usage": "maybe"}, {"type": {"type": {}}}])")
                  .as_array();
  out.emplace_back(std::string(100'000, 'x'));
  out.emplace_back(array(100'000, 1));
  out.emplace_back(array(100'000, "a"));
  out.emplace_back(nested(60));
  return out;
}

unsigned type_of(const value& v) {
  switch (v.kind()) {
    case boost::json::kind::object:
      return kObject;
    case boost::json::kind::array:
      return kArray;
    case boost::json::kind::string:
      return kString;
    case boost::json::kind::bool_:
      return kBool;
    default:
      return kNumber;
  }
}

/// `body` with the member at `path` ("a", "a[0].b") set.
object with(object body, std::string_view path, const value& v) {
  value root = std::move(body);
  value* at = &root;
  while (!path.empty()) {
    if (path.front() == '[') {
      at = &at->as_array().at(static_cast<std::size_t>(path[1] - '0'));
      path.remove_prefix(3);
    } else {
      if (path.front() == '.') path.remove_prefix(1);
      const std::size_t end = std::min(path.find_first_of(".["), path.size());
      at = &at->as_object()[path.substr(0, end)];
      path.remove_prefix(end);
    }
  }
  *at = v;
  return std::move(root.as_object());
}

class MalformedTest : public OpenAiTest {
 protected:
  void check(Route route, const object& good, const Field& field) {
    for (const value& v : wrong_values()) {
      const object body = with(good, field.name, v);
      const std::string shown = std::string(field.name) + " = " + boost::json::serialize(v).substr(0, 60);
      ++tried_;
      try {
        read(route, body);
        EXPECT_TRUE(v.is_null() || (type_of(v) & field.types) != 0) << shown << " was taken";
      } catch (const FieldError& error) {
        EXPECT_EQ(http_status(error), 400) << shown;
        // A part of a message can also make the whole conversation too long.
        const bool too_long =
            shown.starts_with("messages[0]") && v.is_string() && v.get_string().size() > 10'000;
        EXPECT_TRUE(error.field().starts_with(field.name) || (too_long && error.field() == "messages"))
            << shown << " was refused for " << error.field();
        EXPECT_NE(std::string_view(error.what()).find(error.field().substr(0, error.field().find('['))),
                  std::string_view::npos)
            << shown << ": " << error.what();
        EXPECT_LT(std::string_view(error.what()).size(), 600u) << shown;
        ++refused_;
      } catch (const std::exception& error) {
        ADD_FAILURE() << shown << ": " << error.what();
      }
    }
    read(route, good);
  }

  int tried_ = 0;
  int refused_ = 0;
};

TEST_F(MalformedTest, Completions) {
  const object good = boost::json::parse(R"({"prompt":"ROMEO:","stream":true})").as_object();
  for (const Field& field : kCommonFields) {
    const bool needs_no_stream = std::string_view(field.name) == "stream";
    check(Route::kCompletions, needs_no_stream ? object{{"prompt", "ROMEO:"}} : good, field);
  }
  for (const Field& field : kCompletionFields) check(Route::kCompletions, good, field);
  const object whole = boost::json::parse(R"({"prompt":"ROMEO:","echo":true})").as_object();
  for (const Field& field : kSequenceFields) check(Route::kCompletions, whole, field);
  EXPECT_GT(refused_, tried_ / 2);
}

TEST_F(MalformedTest, Chat) {
  const object good =
      boost::json::parse(
          R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stream":true})")
          .as_object();
  for (const Field& field : kCommonFields) check(Route::kChat, good, field);
  for (const Field& field : kChatFields) check(Route::kChat, good, field);
  EXPECT_GT(refused_, tried_ / 2);
}

}  // namespace
}  // namespace peregrine::api
