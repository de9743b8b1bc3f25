// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "fixtures.h"
#include "weights/safetensors_header.h"
#include "weights/tensor.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using namespace std::string_literals;  // NOLINT

/// Expects that the header is refused with this kind, and a message that begins with the file and has `part`.
void expect_refused(std::string_view json, std::uint64_t data_size, ErrorKind kind, const std::string& part) {
  const Caught error = caught([&] { parse_safetensors_header(json, data_size, "m.safetensors"); });
  EXPECT_EQ(error.kind, kind) << json;
  EXPECT_THAT(error.message, AllOf(::testing::StartsWith("m.safetensors: "), HasSubstr(part))) << json;
}

TEST(SafetensorsHeader, ReadsEntriesInTheOrderOfTheirData) {
  const auto header = parse_safetensors_header(
      R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},
          "__metadata__":{"format":"pt","é\"":"\u00e9"},
          "a":{"data_offsets":[0,8],"shape":[1,2],"dtype":"F32"},
          "scalar":{"dtype":"I64","shape":[],"data_offsets":[20,28]}}   )",
      28, "m");
  ASSERT_EQ(header.entries.size(), 3u);
  EXPECT_EQ(header.entries[0].name, "a");
  EXPECT_EQ(header.entries[0].dtype, DType::kF32);
  EXPECT_THAT(header.entries[0].shape, ElementsAre(1, 2));
  EXPECT_EQ(header.entries[1].name, "b");
  EXPECT_EQ(header.entries[1].dtype, DType::kBF16);
  EXPECT_EQ(header.entries[1].begin, 8u);
  EXPECT_EQ(header.entries[1].end, 20u);
  EXPECT_EQ(header.entries[2].name, "scalar");
  EXPECT_THAT(header.entries[2].shape, ElementsAre());
  EXPECT_THAT(header.metadata, ElementsAre(Pair("format", "pt"), Pair("é\"", "é")));
}

TEST(SafetensorsHeader, EmptyTensorsAndEmptyFilesAreFine) {
  const auto header = parse_safetensors_header(
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
          "before":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},
          "between":{"dtype":"F32","shape":[7,0],"data_offsets":[4,4]},
          "y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
          "behind":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})",
      8, "m");
  std::vector<std::string> names;
  for (const auto& entry : header.entries) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("before", "x", "between", "y", "behind"));
  EXPECT_TRUE(parse_safetensors_header("{}", 0, "m").entries.empty());
  EXPECT_TRUE(parse_safetensors_header(R"({"__metadata__":{}})", 0, "m").entries.empty());
}

TEST(SafetensorsHeader, EveryDataTypeIsRead) {
  for (const char* name : {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8",
                           "U64", "U32", "U16", "U8", "BOOL"}) {
    const auto dtype = parse_safetensors_dtype(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_STREQ(safetensors_dtype_name(*dtype), name);
    const auto bytes = 3 * core::size_of(*dtype);
    const auto header = parse_safetensors_header(
        fmt::format(R"({{"t":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name, bytes), bytes,
        "m");
    EXPECT_EQ(header.entries.at(0).dtype, *dtype);
  }
}

TEST(SafetensorsHeader, UnknownDataTypesAreRefusedByName) {
  for (const std::string name : {"F4", "F8_E8M0", "C64", "f32", "float32", "", "F32 "}) {
    expect_refused(R"({"t":{"dtype":")" + name + R"(","shape":[2],"data_offsets":[0,8]}})", 8,
                   ErrorKind::kUnsupported,
                   "tensor 't': data type '" + name + "' is not known; known are F64, F32, F16, BF16,");
  }
}

TEST(SafetensorsHeader, ExtentsMustMatchShapeAndFile) {
  const auto entry = [](const char* name, const char* shape, std::uint64_t begin, std::uint64_t end) {
    return fmt::format(R"("{}":{{"dtype":"F32","shape":{},"data_offsets":[{},{}]}})", name, shape, begin,
                       end);
  };
  const auto both = [](const std::string& a, const std::string& b) { return "{" + a + "," + b + "}"; };
  const auto max = std::numeric_limits<std::uint64_t>::max();
  const auto loss = ErrorKind::kDataLoss;
  const auto bad = ErrorKind::kInvalidArgument;
  expect_refused("{" + entry("t", "[2,3]", 0, 20) + "}", 20, loss,
                 "tensor 't': shape [2, 3] of F32 needs 24 bytes, data_offsets [0, 20] give 20");
  expect_refused("{" + entry("t", "[2,3]", 0, 28) + "}", 28, loss,
                 "needs 24 bytes, data_offsets [0, 28] give 28");
  expect_refused("{" + entry("t", "[0]", 0, 4) + "}", 4, loss, "shape [0] of F32 needs 0 bytes");
  expect_refused("{" + entry("t", "[1]", 8, 4) + "}", 8, bad,
                 "tensor 't': data_offsets [8, 4] end before they begin");
  expect_refused("{" + entry("t", "[2,3]", 0, 24) + "}", 23, loss,
                 "tensor 't' needs data bytes 0 to 24, but the file has 23 bytes of data: truncated");
  expect_refused("{" + entry("t", "[2,3]", 0, 24) + "}", 25, loss,
                 "tensors cover 24 bytes of data, but the file has 25");
  expect_refused("{}", 1, loss, "tensors cover 0 bytes of data, but the file has 1");
  expect_refused("{" + entry("t", "[1]", 4, 8) + "}", 8, loss,
                 "tensor 't' begins at data byte 4, but the data before it "
                 "ends at 0: a gap");
  expect_refused(both(entry("a", "[1]", 0, 4), entry("b", "[1]", 8, 12)), 12, loss,
                 "tensor 'b' begins at data byte 8, "
                 "but the data before it ends at 4: a gap");
  expect_refused(both(entry("a", "[2]", 0, 8), entry("b", "[1]", 4, 8)), 8, loss,
                 "tensor 'b' begins at data byte 4, inside tensor 'a', which ends at 8");
  expect_refused(both(entry("a", "[2]", 0, 8), entry("b", "[2]", 0, 8)), 8, loss,
                 "tensor 'b' begins at data byte 0, inside");
  expect_refused(both(entry("a", "[2]", 0, 8), entry("e", "[0]", 4, 4)), 8, loss,
                 "tensor 'e' begins at data byte 4, inside");
  expect_refused(both(entry("a", "[1]", 0, 4), entry("b", "[1]", max - 4, max)), 8, loss,
                 "tensor 'b' begins at data byte "
                 "18446744073709551611");
  expect_refused("{" + entry("e", "[0]", max, max) + "}", 0, loss,
                 "tensor 'e' begins at data byte 18446744073709551615");
}

TEST(SafetensorsHeader, ShapesThatOverflowAreRefused) {
  for (const char* shape : {"[9223372036854775807]", "[4611686018427387904,2]", "[4294967296,4294967296]",
                            "[65536,65536,65536,65536]", "[2305843009213693952]", "[0,4294967296,4294967296]",
                            "[4294967296,4294967296,0]"}) {
    expect_refused(fmt::format(R"({{"t":{{"dtype":"F32","shape":{},"data_offsets":[0,0]}}}})", shape), 0,
                   ErrorKind::kInvalidArgument, "of F32 is more than 2^63 - 1 bytes");
  }
  std::string many = "1";
  for (int i = 0; i < 31; ++i) many += ",1";
  const auto with = [](const std::string& shape) {
    return R"({"t":{"dtype":"U8","shape":[)" + shape + R"(],"data_offsets":[0,1]}})";
  };
  EXPECT_EQ(parse_safetensors_header(with(many), 1, "m").entries[0].shape.size(), kMaxTensorRank);
  expect_refused(with(many + ",1"), 1, ErrorKind::kInvalidArgument,
                 "tensor 't': 'shape' has more than 32 dimensions");
}

TEST(SafetensorsHeader, WrongJsonTypesNameTensorKeyAndValue) {
  const auto bad = ErrorKind::kInvalidArgument;
  const auto with = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"t":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  expect_refused(R"({"t":5})", 0, bad, "tensor 't' must be an object, found the number 5");
  expect_refused(R"({"t":null})", 0, bad, "tensor 't' must be an object, found null");
  expect_refused(R"({"t":[]})", 0, bad, "tensor 't' must be an object, found an array");
  expect_refused(R"({"t":"x"})", 0, bad, "tensor 't' must be an object, found the string 'x'");
  expect_refused(with("32", "[1]", "[0,4]"), 4, bad,
                 "tensor 't': 'dtype' must be a string, found the number 32");
  expect_refused(with("null", "[1]", "[0,4]"), 4, bad, "'dtype' must be a string, found null");
  expect_refused(with("[\"F32\"]", "[1]", "[0,4]"), 4, bad, "'dtype' must be a string, found an array");
  expect_refused(with("{}", "[1]", "[0,4]"), 4, bad, "'dtype' must be a string, found an object");
  expect_refused(with("\"F32\"", "1", "[0,4]"), 4, bad,
                 "'shape' must be an array of integers, found the number 1");
  expect_refused(with("\"F32\"", "\"[1]\"", "[0,4]"), 4, bad,
                 "'shape' must be an array of integers, found the string");
  expect_refused(with("\"F32\"", "[-1]", "[0,4]"), 4, bad,
                 "'shape' must hold integers from 0 to 2^63 - 1, found the number -1");
  expect_refused(with("\"F32\"", "[1.0]", "[0,4]"), 4, bad,
                 "'shape' must hold integers from 0 to 2^63 - 1, found the number 1");
  expect_refused(with("\"F32\"", "[1e0]", "[0,4]"), 4, bad, "'shape' must hold integers");
  expect_refused(with("\"F32\"", "[9223372036854775808]", "[0,4]"), 4, bad,
                 "found the number 9223372036854775808");
  expect_refused(with("\"F32\"", "[99999999999999999999]", "[0,4]"), 4, bad, "'shape' must hold integers");
  expect_refused(with("\"F32\"", "[[1]]", "[0,4]"), 4, bad,
                 "'shape' must hold integers from 0 to 2^63 - 1, found an array");
  expect_refused(with("\"F32\"", "[true]", "[0,4]"), 4, bad, "found true");
  expect_refused(with("\"F32\"", "[1]", "[0]"), 4, bad,
                 "'data_offsets' must hold two integers, begin and end; found 1");
  expect_refused(with("\"F32\"", "[1]", "[]"), 4, bad, "begin and end; found 0");
  expect_refused(with("\"F32\"", "[1]", "[0,4,8]"), 4, bad, "begin and end; found 3");
  expect_refused(with("\"F32\"", "[1]", "[0,\"4\"]"), 4, bad,
                 "'data_offsets' must hold integers from 0 to 2^64 - 1, found");
  expect_refused(with("\"F32\"", "[1]", "[0,4.5]"), 4, bad, "found the number 4.5");
  expect_refused(with("\"F32\"", "[1]", "[0,18446744073709551616]"), 4, bad,
                 "'data_offsets' must hold integers");
  expect_refused(with("\"F32\"", "[1]", "[-4,0]"), 4, bad, "found the number -4");
  expect_refused(with("\"F32\"", "[1]", "{\"0\":4}"), 4, bad,
                 "'data_offsets' must be an array of two integers, found an object");
  expect_refused(with("\"F32\"", "[1]", "4"), 4, bad,
                 "'data_offsets' must be an array of two integers, found the number 4");
}

TEST(SafetensorsHeader, MissingUnknownAndRepeatedKeysAreRefused) {
  const auto bad = ErrorKind::kInvalidArgument;
  expect_refused(R"({"t":{}})", 0, bad, "tensor 't': 'dtype' is missing");
  expect_refused(R"({"t":{"shape":[0],"data_offsets":[0,0]}})", 0, bad, "tensor 't': 'dtype' is missing");
  expect_refused(R"({"t":{"dtype":"F32","data_offsets":[0,0]}})", 0, bad, "tensor 't': 'shape' is missing");
  expect_refused(R"({"t":{"dtype":"F32","shape":[0]}})", 0, bad, "tensor 't': 'data_offsets' is missing");
  expect_refused(R"({"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"strides":[1]}})", 0, bad,
                 "tensor 't': unknown key 'strides'; known are dtype, shape, data_offsets");
  expect_refused(R"({"t":{"dtype":"F32","shape":[0],"dtype":"F32","data_offsets":[0,0]}})", 0, bad,
                 "tensor 't': 'dtype' is given twice");
  expect_refused(R"({"t":{"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]}})", 0, bad,
                 "'shape' is given twice");
  expect_refused(R"({"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})", 0, bad,
                 "'data_offsets' is given twice");
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_refused(
      R"({"t":)" + entry + R"(,"u":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"t":)" + entry + "}", 4,
      bad, "tensor 't' is given twice");
  expect_refused(R"({"\u0074":)" + entry + R"(,"t":)" + entry + "}", 4, bad, "tensor 't' is given twice");
}

TEST(SafetensorsHeader, MetadataMapsStringsToStrings) {
  const auto bad = ErrorKind::kInvalidArgument;
  expect_refused(R"({"__metadata__":"pt"})", 0, bad,
                 "tensor '__metadata__' must be an object, found the string 'pt'");
  expect_refused(R"({"__metadata__":{"format":1}})", 0, bad,
                 "'__metadata__': 'format' must be a string, found the number 1");
  expect_refused(R"({"__metadata__":{"format":null}})", 0, bad,
                 "'__metadata__': 'format' must be a string, found null");
  expect_refused(R"({"__metadata__":{"format":{}}})", 0, bad, "'format' must be a string, found an object");
  expect_refused(R"({"__metadata__":{"format":[]}})", 0, bad, "'format' must be a string, found an array");
  expect_refused(R"({"__metadata__":{"a":"x","a":"y"}})", 0, bad, "'__metadata__': 'a' is given twice");
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, bad, "'__metadata__' is given twice");
}

TEST(SafetensorsHeader, TextThatIsNotOneJsonObjectIsRefused) {
  const auto bad = ErrorKind::kInvalidArgument;
  expect_refused("", 0, bad, "the header must begin with '{', found ''");
  expect_refused("   ", 0, bad, "the header must begin with '{', found '   '");
  expect_refused(" {}", 0, bad, "the header must begin with '{'");
  expect_refused("[]", 0, bad, "the header must begin with '{', found '[]'");
  expect_refused("{} x", 0, bad, "not valid JSON at byte 3: ");
  expect_refused("{}{}", 0, bad, "not valid JSON at byte 2: ");
  expect_refused("{}\0"s, 0, bad, "not valid JSON");
  expect_refused(R"({"t":{"dtype":"F32","shape":[)", 0, bad, "not valid JSON at byte");
  expect_refused("{\"t\xff\":{}}", 0, bad, "not valid JSON at byte");
  expect_refused("{\"t\xc3\":{}}", 0, bad, "not valid JSON at byte");
  expect_refused(R"({"\ud800":{}})", 0, bad, "not valid JSON at byte");
  expect_refused(R"({"t":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}})", 4, bad,
                 "not valid JSON at byte");
  expect_refused(R"({"a":{},})", 0, bad, "");
  expect_refused("{" + std::string(100000, '['), 0, bad, "not valid JSON");
  expect_refused(R"({"t":)" + std::string(100000, '['), 0, bad,
                 "tensor 't' must be an object, found an array");
  EXPECT_NO_THROW(parse_safetensors_header("{} \n\t ", 0, "m"));
}

TEST(SafetensorsPrefix, LengthIsCheckedAgainstLimitAndFile) {
  const auto refused = [](std::string_view file) {
    return caught([&] { parse_safetensors(as_bytes(file), "m.safetensors"); });
  };
  for (std::size_t size = 0; size < 8; ++size) {
    const Caught error = refused(std::string(size, '\0'));
    EXPECT_EQ(error.kind, ErrorKind::kDataLoss);
    EXPECT_THAT(error.message, HasSubstr(fmt::format("m.safetensors: has {} bytes", size)));
  }
  const auto claim = [](std::uint64_t length) {
    std::string out = file_of("{}", "");
    std::memcpy(out.data(), &length, sizeof length);
    return out;
  };
  EXPECT_THAT(refused(claim(100'000'001)).message,
              HasSubstr("claims a header of 100000001 bytes; at most 100000000 are allowed"));
  EXPECT_THAT(refused(claim(std::uint64_t{1} << 63)).message,
              HasSubstr("claims a header of 9223372036854775808 bytes; at"));
  EXPECT_THAT(refused(claim(std::numeric_limits<std::uint64_t>::max())).message,
              HasSubstr("at most 100000000"));
  const Caught truncated = refused(claim(100'000'000));
  EXPECT_EQ(truncated.kind, ErrorKind::kDataLoss);
  EXPECT_THAT(truncated.message,
              HasSubstr("claims a header of 100000000 bytes, but only 2 follow: truncated"));
  EXPECT_THAT(refused(claim(3)).message, HasSubstr("claims a header of 3 bytes, but only 2 follow"));
  EXPECT_THAT(refused(claim(1)).message, HasSubstr("not valid JSON at byte 1"));
  EXPECT_THAT(refused(claim(0)).message, HasSubstr("must begin with '{'"));
  EXPECT_EQ(parse_safetensors(as_bytes(claim(2)), "m").data_start, 10u);

  const Caught pointer = refused("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 100\n");
  EXPECT_THAT(pointer.message, HasSubstr("is a Git LFS pointer, not the weights"));
}

TEST(ByteSize, CountsAndRefusesOverflow) {
  const auto size = [](std::vector<std::int64_t> shape, DType dtype = DType::kF32) {
    return byte_size(shape, dtype);
  };
  EXPECT_EQ(size({}), 4u);
  EXPECT_EQ(size({2, 3, 5}), 120u);
  EXPECT_EQ(size({2, 0, 5}), 0u);
  EXPECT_EQ(size({std::int64_t{1} << 60}), std::uint64_t{1} << 62);
  EXPECT_EQ(size({std::int64_t{1} << 61}), std::nullopt);
  EXPECT_EQ(size({std::numeric_limits<std::int64_t>::max()}, DType::kU8), (std::uint64_t{1} << 63) - 1);
  EXPECT_EQ(size({-1}), std::nullopt);
  EXPECT_EQ(shape_text(std::vector<std::int64_t>{4, 50}), "[4, 50]");
  EXPECT_EQ(shape_text({}), "[]");
}

}  // namespace
}  // namespace peregrine::weights
