// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fixtures.h"
#include "weights/safetensors_index.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

void expect_refused(const std::string& json, const std::string& part) {
  const Caught error = caught([&] { parse_safetensors_index(json, "index.json"); });
  EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument) << json;
  EXPECT_THAT(error.message, AllOf(StartsWith("index.json: "), HasSubstr(part))) << json;
}

TEST(SafetensorsIndex, SortsShardsAndTensors) {
  const auto index = parse_safetensors_index(
      R"({"metadata":{"total_size":7,"weight_map":{"x":1},"list":[1,"a",{"b":[null,true,1.5]}]},
          "weight_map":{"z":"b.safetensors","a":"a.safetensors","m":"b.safetensors"},"other":"text"})",
      "i");
  EXPECT_THAT(index.shards, ElementsAre("a.safetensors", "b.safetensors"));
  ASSERT_EQ(index.entries.size(), 3u);
  EXPECT_EQ(index.entries[0].tensor, "a");
  EXPECT_EQ(index.entries[0].shard, 0u);
  EXPECT_EQ(index.entries[1].tensor, "m");
  EXPECT_EQ(index.entries[1].shard, 1u);
  EXPECT_EQ(index.entries[2].tensor, "z");
  EXPECT_EQ(index.entries[2].shard, 1u);
}

TEST(SafetensorsIndex, DamageIsNamed) {
  expect_refused("", "not valid JSON at byte 0");
  expect_refused("{", "not valid JSON at byte 1");
  expect_refused(R"({"weight_map":{"a":"a.safetensors"}} x)", "not valid JSON at byte 37");
  expect_refused("[]", "must be an object, found an array");
  expect_refused("7", "must be an object, found the number 7");
  expect_refused("null", "must be an object, found null");
  expect_refused("{}", "'weight_map' is missing");
  expect_refused(R"({"metadata":{"weight_map":{}}})", "'weight_map' is missing");
  expect_refused(R"({"weight_map":{}})", "'weight_map' is empty");
  expect_refused(R"({"weight_map":null})", "'weight_map' must be an object, found null");
  expect_refused(R"({"weight_map":[]})", "'weight_map' must be an object, found an array");
  expect_refused(R"({"weight_map":"a.safetensors"})", "'weight_map' must be an object, found a string");
  expect_refused(R"({"weight_map":{"t":3}})",
                 "'weight_map': tensor 't' must be the file name of a shard, found the number 3");
  expect_refused(R"({"weight_map":{"t":null}})", "tensor 't' must be the file name of a shard, found null");
  expect_refused(R"({"weight_map":{"t":["a.safetensors"]}})",
                 "tensor 't' must be the file name of a shard, found an array");
  expect_refused(R"({"weight_map":{"t":{}}})",
                 "tensor 't' must be the file name of a shard, found an object");
  expect_refused(R"({"weight_map":{"t":"a.safetensors","u":"a.safetensors","t":"a.safetensors"}})",
                 "tensor 't' is given twice");
  expect_refused(R"({"weight_map":{"t":"a.safetensors"},"weight_map":{}})", "'weight_map' is given twice");
}

TEST(SafetensorsIndex, ShardsAreNamesInTheSameDirectory) {
  for (const std::string name : {"/etc/x.safetensors", "../x.safetensors", "a/b.safetensors",
                                 "a\\\\b.safetensors", "..safetensors", "a\\u0000.safetensors"}) {
    expect_refused(R"({"weight_map":{"t":")" + name + R"("}})",
                   "must be a plain file name, without path separators or '..'");
  }
  for (const std::string name : {"", ".", "pytorch_model.bin", "model.safetensors.json"}) {
    expect_refused(R"({"weight_map":{"t":")" + name + R"("}})",
                   "'weight_map': tensor 't': shard '" + name + "' must end in .safetensors");
  }
}

}  // namespace
}  // namespace peregrine::weights
