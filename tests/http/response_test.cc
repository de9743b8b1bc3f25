// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/response_writer.h"

namespace peregrine::http {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(ResponseWriter, AnAnswerWithALength) {
  ResponseWriter writer;
  std::string out;
  writer.write_whole({.status = 200, .content_type = "text/plain", .headers = {{"X-Name", "value"}}}, "body",
                     out);
  EXPECT_THAT(out, StartsWith("HTTP/1.1 200 OK\r\nDate: "));
  EXPECT_THAT(out, HasSubstr(" GMT\r\nServer: peregrine\r\nContent-Type: text/plain\r\nX-Name: value\r\n"));
  EXPECT_THAT(out, EndsWith("Content-Length: 4\r\n\r\nbody"));
  EXPECT_TRUE(writer.keeps_alive());
}

TEST(ResponseWriter, AnErrorIsTheLastAnswer) {
  for (const bool survives : {false, true}) {
    ResponseWriter writer;
    if (survives) writer.survive_error();
    std::string out;
    writer.write_whole({.status = 413, .content_type = "", .headers = {}}, "", out);
    EXPECT_THAT(out, StartsWith("HTTP/1.1 413 Payload Too Large\r\n"));
    EXPECT_EQ(out.find("Connection: close") == std::string::npos, survives);
    EXPECT_EQ(writer.keeps_alive(), survives);
    EXPECT_THAT(out, Not(HasSubstr("Content-Type")));
  }
}

TEST(ResponseWriter, ChunksOnlyForThoseWhoKnowThem) {
  for (const bool http11 : {false, true}) {
    ResponseWriter writer({.http11 = http11});
    std::string out;
    writer.begin({}, out);
    EXPECT_EQ(out.find("Transfer-Encoding: chunked\r\n") != std::string::npos, http11);
    EXPECT_EQ(out.find("Connection: close\r\n") == std::string::npos, http11);
    out.clear();
    writer.write_part("0123456789abcdef", out);
    writer.write_part("", out);
    writer.end(out);
    EXPECT_EQ(out, http11 ? "10\r\n0123456789abcdef\r\n0\r\n\r\n" : "0123456789abcdef");
    EXPECT_EQ(writer.keeps_alive(), http11);
  }
}

TEST(ResponseWriter, NoBodyWhereThereMayBeNone) {
  std::string out;
  ResponseWriter head({.head_only = true});
  head.write_whole({}, "body", out);
  EXPECT_THAT(out, EndsWith("Content-Length: 4\r\n\r\n"));
  out.clear();
  ResponseWriter no_content;
  no_content.write_whole({.status = 204, .content_type = "", .headers = {}}, "body", out);
  EXPECT_THAT(out, EndsWith("Server: peregrine\r\n\r\n"));
  EXPECT_TRUE(no_content.keeps_alive());
}

TEST(ResponseWriter, HeadersCannotAddLines) {
  ResponseWriter writer;
  std::string out;
  writer.write_whole(
      {.status = 99,
       .content_type = "a\r\nEvil: 1",
       .headers = {{"Name", "v\r\n\r\nEvil"}, {"Bad\r\nName", "x"}, {"Content-length", "7"}, {"", "x"}}},
      "body", out);
  EXPECT_THAT(out, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(out, HasSubstr("Content-Type: aEvil: 1\r\nName: vEvil\r\nContent-Length: 4\r\n"));
}

}  // namespace
}  // namespace peregrine::http
