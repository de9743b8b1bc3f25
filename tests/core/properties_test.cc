// SPDX-License-Identifier: Apache-2.0
#include "core/properties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace peregrine::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(Properties, ReadsWhatJavaReads) {
  EXPECT_THAT(
      parse_properties(
          "# comment\n! another\n\n  engine = Python \r\noption.dtype:bf16\nkey value\nempty=\nalone\n", "f"),
      ElementsAre(Pair("engine", "Python"), Pair("option.dtype", "bf16"), Pair("key", "value"),
                  Pair("empty", ""), Pair("alone", "")));
}

TEST(Properties, EscapesContinuationsAndRepeats) {
  EXPECT_THAT(parse_properties("a\\=b = c\\\n   d\\u00e9\\t\\\\\nlist=1,\\\n# not a comment\nlist=2\n", "f"),
              ElementsAre(Pair("a=b", "cd\xC3\xA9\t\\"), Pair("list", "2")));
  EXPECT_THAT(parse_properties("a=b\\", "f"), ElementsAre(Pair("a", "b")));
}

TEST(Properties, RefusesBrokenEscapesByLine) {
  for (const char* text : {"a=1\nb=\\u00g0", "a=1\nb=\\u00", "a=1\nb=\\ud800"}) {
    try {
      parse_properties(text, "serving.properties");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("serving.properties line 2"));
    }
  }
  EXPECT_THROW(parse_properties(std::string_view("a=\0", 3), "f"), Error);
}

}  // namespace
}  // namespace peregrine::core
