// SPDX-License-Identifier: Apache-2.0
#include "core/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace peregrine::core {
namespace {

using ::testing::HasSubstr;

template <typename Function>
std::string error_of(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Json, ErrorsNameTheDocumentThePlaceAndTheValue) {
  const auto document =
      parse_json(R"({"a": {"n": -3, "f": 1.5, "s": "x", "z": null}, "l": [1, true]})", "config.json");
  const JsonView view(document, "config.json");
  EXPECT_EQ(view.at("a").at("n").as_int(-5, 5), -3);
  EXPECT_THAT(error_of([&] { view.at("a").at("n").as_int(1, 5); }),
              HasSubstr("config.json: 'a': 'n' must be an integer from 1 to 5, found -3"));
  EXPECT_THAT(error_of([&] { view.at("a").at("f").as_int(1, 5); }), HasSubstr("found 1.5E0"));
  EXPECT_THAT(error_of([&] { view.at("a").at("s").as_bool(); }),
              HasSubstr("must be true or false, found the string 'x'"));
  EXPECT_THAT(error_of([&] { view.at("b"); }), HasSubstr("config.json: 'b' is missing"));
  EXPECT_FALSE(view.at("a").find("z").has_value());
  EXPECT_THAT(error_of([&] { view.at("l").items()[1].as_number(); }),
              HasSubstr("config.json: 'l'[1] must be a number"));
  EXPECT_THAT(error_of([&] { view.at("l").find("k"); }),
              HasSubstr("must be an object, found an array of 2 elements"));
}

TEST(Json, BadDocumentsAreRefusedByPosition) {
  EXPECT_THAT(error_of([] { parse_json("{\"a\": 1,}", "f.json"); }),
              HasSubstr("f.json: not valid JSON at byte"));
  EXPECT_THAT(error_of([] { parse_json("{\"a\": 1", "f.json"); }),
              HasSubstr("f.json: not valid JSON at byte 7: incomplete"));
  EXPECT_THAT(error_of([] { parse_json("{} x", "f.json"); }), HasSubstr("f.json: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json("", "f.json"); }), HasSubstr("f.json"));
  EXPECT_THAT(error_of([] { parse_json(std::string(100000, '['), "f.json"); }), HasSubstr("f.json"));
  EXPECT_THAT(error_of([] { parse_json("{\"a\": \"\xff\"}", "f.json"); }), HasSubstr("f.json"));
}

}  // namespace
}  // namespace peregrine::core
