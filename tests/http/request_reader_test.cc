// SPDX-License-Identifier: Apache-2.0
#include "http/request_reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace peregrine::http {
namespace {

using Progress = RequestReader::Progress;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr ReaderLimits kLimits{.header_size = 1024, .body_size = 1000};

/// Gives the reader `bytes` in pieces of at most `piece`, as a connection does: what it leaves comes again
/// with more. Returns what it came to; `rest` is what it left.
Progress feed(RequestReader& reader, std::string_view bytes, std::size_t piece, std::string* rest = nullptr) {
  std::string buffer;
  while (true) {
    const std::string_view more = bytes.substr(0, piece);
    bytes.remove_prefix(more.size());
    buffer += more;
    while (true) {
      std::string_view input = buffer;
      const Progress progress = reader.read(input);
      buffer.erase(0, buffer.size() - input.size());
      if (progress == Progress::kHead && !buffer.empty()) continue;
      if (progress == Progress::kWhole || progress == Progress::kRefused) {
        if (rest != nullptr) *rest = buffer + std::string(bytes);
        return progress;
      }
      break;
    }
    if (bytes.empty()) return Progress::kNeedMore;
  }
}

int refused_status(const std::string& bytes, std::size_t piece = 1 << 20) {
  RequestReader reader(kLimits);
  return feed(reader, bytes, piece) == Progress::kRefused ? reader.refusal().status : 0;
}

api::HttpRequest whole(const std::string& bytes, std::size_t piece = 1 << 20) {
  RequestReader reader(kLimits);
  EXPECT_EQ(feed(reader, bytes, piece), Progress::kWhole) << bytes << reader.refusal().message;
  return reader.begun() ? reader.take() : api::HttpRequest{};
}

TEST(RequestReader, AnyPiecesGiveTheSameRequest) {
  const std::string with_length =
      "\r\nPOST /a%20b%2Fc?x=%20y HTTP/1.1\r\nHost: h\r\nX-Some-Header:  a b \r\n"
      "Content-Length: 11\r\n\r\nhello world";
  const std::string with_chunks =
      "POST /a%20b%2Fc?x=%20y HTTP/1.1\r\nHost: h\r\nX-Some-Header:  a b \r\n"
      "Transfer-Encoding: Chunked\r\n\r\n1\r\nh\r\n05;ext=\"1\"\r\nello \r\n5\r\n"
      "world\r\n0\r\nTrailer: t\r\nHost: evil\r\n\r\n";
  for (const std::string& bytes : {with_length, with_chunks}) {
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
      RequestReader reader(kLimits);
      std::string rest;
      ASSERT_EQ(feed(reader, bytes + "GET ", piece, &rest), Progress::kWhole) << reader.refusal().message;
      EXPECT_EQ(rest, "GET ");
      EXPECT_TRUE(reader.form().keep_alive);
      const api::HttpRequest request = reader.take();
      EXPECT_EQ(request.method, "POST");
      EXPECT_EQ(request.path, "/a b/c");
      EXPECT_EQ(request.query, "x=%20y");
      EXPECT_EQ(request.body, "hello world");
      // Trailers are not among the headers.
      EXPECT_THAT(request.headers, ElementsAre(Pair("host", "h"), Pair("x-some-header", "a b"), testing::_));
    }
  }
}

TEST(RequestReader, Targets) {
  const auto path = [](const std::string& line) { return whole(line + " HTTP/1.1\r\n\r\n").path; };
  EXPECT_EQ(path("GET /"), "/");
  EXPECT_EQ(path("GET http://host:80/x%41?q"), "/xA");
  EXPECT_EQ(path("GET HTTPS://host"), "/");
  EXPECT_EQ(path("GET http://host?q=1"), "/");
  EXPECT_EQ(path("OPTIONS *"), "*");
  EXPECT_EQ(whole("GET http://host?q=1 HTTP/1.1\r\n\r\n").query, "q=1");
  for (const char* target :
       {"*", "host:80", "x", "%2f", "/%", "/%1", "/%zz", "/%00", "/a%2", "http:/x", "?q"}) {
    EXPECT_EQ(refused_status(fmt::format("GET {} HTTP/1.1\r\n\r\n", target)), 400) << target;
  }
}

TEST(RequestReader, WhatIsNotARequestIsRefused) {
  const auto status = [](const std::string& headers, const std::string& body = "") {
    const std::string bytes = "POST / HTTP/1.1\r\n" + headers + "\r\n" + body;
    const int at_once = refused_status(bytes);
    EXPECT_EQ(refused_status(bytes, 1), at_once) << headers;
    return at_once;
  };
  EXPECT_EQ(refused_status("\x16\x03\x01\x02"), 400);  // TLS
  EXPECT_EQ(refused_status("GET / FTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(refused_status("GET / HTTP/1.1\nHost: x\n\n"), 400);
  EXPECT_EQ(refused_status("GET / HTTP/2.0\r\n\r\n"), 505);
  EXPECT_EQ(refused_status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
  EXPECT_EQ(refused_status("GET / HTTP/0.9\r\n\r\n"), 505);
  EXPECT_EQ(refused_status("GET /a b HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status("Content-Length: 1\r\nContent-Length: 2\r\n"), 400);
  EXPECT_EQ(status("Content-Length: 1, 2\r\n"), 400);
  EXPECT_EQ(status("Content-Length: -1\r\n"), 400);
  EXPECT_EQ(status("Content-Length: +1\r\n"), 400);
  EXPECT_EQ(status("Content-Length: 0x1\r\n"), 400);
  EXPECT_EQ(status("Content-Length: 99999999999999999999999\r\n"), 400);
  EXPECT_EQ(status("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400);
  EXPECT_EQ(status("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), 400);
  EXPECT_EQ(status("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
  EXPECT_EQ(status("Transfer-Encoding: gzip\r\n"), 501);
  EXPECT_EQ(status("Transfer-Encoding: gzip, chunked\r\n"), 501);
  EXPECT_EQ(status("Transfer-Encoding: identity\r\n"), 501);
  EXPECT_EQ(status("Transfer-Encoding : chunked\r\n"), 400);
  EXPECT_EQ(status("Host: a\r\nHost: b\r\n"), 400);
  EXPECT_EQ(status("Name\r\n"), 400);
  EXPECT_EQ(status("A: b\nC: d\r\n"), 400);
  EXPECT_EQ(status("A: b\rC: d\r\n"), 400);
  EXPECT_EQ(status(": b\r\n"), 400);
  EXPECT_EQ(refused_status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  for (const char* body :
       {"x\r\n", "\r\n\r\n", "-1\r\n\r\n", "1\nx\r\n0\r\n\r\n", "1\r\nxx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n\r\n", "0\r\nbad trailer\r\n\r\n", "0\r\nContent-Length: 3\r\n\r\n"}) {
    EXPECT_EQ(status(chunked, body), 400) << body;
  }
}

TEST(RequestReader, Limits) {
  // Headers: also where each comes in its own piece.
  for (const std::size_t piece : {std::size_t{10}, std::size_t{1} << 20}) {
    std::string many = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < 200; ++i) many += "Name: x\r\n";
    EXPECT_EQ(refused_status(many + "\r\n", piece), 431);
    EXPECT_EQ(refused_status("GET / HTTP/1.1\r\nName: " + std::string(2000, 'x'), piece), 431);
    EXPECT_EQ(refused_status("GET /" + std::string(2000, 'x'), piece), 414);
  }
  RequestReader lines({.header_size = 1u << 20, .body_size = 10});
  std::string bytes = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 300; ++i) bytes += "N: x\r\n";
  EXPECT_EQ(feed(lines, bytes + "\r\n", 100), Progress::kRefused);
  EXPECT_EQ(lines.refusal().status, 431);
  EXPECT_THAT(lines.refusal().message, HasSubstr("256 headers"));

  std::string exact = "GET / HTTP/1.1\r\nName: ";
  exact += std::string(kLimits.header_size - exact.size() - 4, 'x') + "\r\n\r\n";
  whole(exact);
  whole(exact, 1);
  exact.insert(exact.size() - 4, "x");
  EXPECT_EQ(refused_status(exact), 431);
  EXPECT_EQ(refused_status(exact, 1), 431);

  // Bodies.
  const std::string post = "POST / HTTP/1.1\r\n";
  whole(post + "Content-Length: 1000\r\n\r\n" + std::string(1000, 'x'));
  whole(post + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + std::string(1000, 'x') + "\r\n0\r\n\r\n");
  const auto declared = [&](const std::string& headers) {
    RequestReader reader(kLimits);
    EXPECT_EQ(feed(reader, post + headers + "\r\n", 1 << 20), Progress::kRefused);
    EXPECT_EQ(reader.refusal().status, 413);
    return reader.refusal().declared_length;
  };
  EXPECT_EQ(declared("Content-Length: 1001\r\n"), 1001u);
  EXPECT_EQ(declared("Content-Length: 1001\r\nExpect: 100-continue\r\n"), 0u);
  EXPECT_EQ(declared("Content-Length: 18446744073709551615\r\n"), 18446744073709551615u);
  const std::string chunks = post + "Transfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(refused_status(chunks + "3e9\r\n"), 413);
  EXPECT_EQ(refused_status(chunks + "ffffffffffffffff\r\n"), 413);
  EXPECT_EQ(refused_status(chunks + "3e7\r\n" + std::string(999, 'x') + "\r\n2\r\n"), 413);
  EXPECT_EQ(refused_status(chunks + "1;" + std::string(20000, 'x'), 1000), 400);
  EXPECT_EQ(refused_status(chunks + "0\r\nT: " + std::string(20000, 'x'), 1000), 400);
}

TEST(RequestReader, ADeclaredLengthTakesNoMemory) {
  RequestReader reader({.header_size = 1024, .body_size = 1ull << 40});
  EXPECT_EQ(feed(reader, "POST / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\nabc", 7),
            Progress::kNeedMore);
  EXPECT_EQ(reader.body_size(), 3u);
  EXPECT_LT(reader.take().body.capacity(), 1000u);
}

TEST(RequestReader, FormOfTheAnswer) {
  const auto form = [](const std::string& bytes) {
    RequestReader reader(kLimits);
    feed(reader, bytes, 1 << 20);
    return reader.form();
  };
  EXPECT_TRUE(form("GET / HTTP/1.1\r\n\r\n").keep_alive);
  EXPECT_FALSE(form("GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\n").keep_alive);
  EXPECT_FALSE(form("GET / HTTP/1.0\r\n\r\n").keep_alive);
  EXPECT_FALSE(form("GET / HTTP/1.0\r\n\r\n").http11);
  EXPECT_TRUE(form("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
  EXPECT_TRUE(form("HEAD / HTTP/1.1\r\n\r\n").head_only);
  EXPECT_FALSE(form("GARBAGE\r\n\r\n").keep_alive);
}

TEST(RequestReader, RandomBytesEndSomewhere) {
  const std::vector<std::string> seeds = {
      "POST /x?y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
      "POST /x HTTP/1.1\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
      "GET http://h/%41 HTTP/1.0\r\nA: b\r\n c\r\n\r\n",
  };
  std::mt19937 random(7);
  const std::string spice = "\r\n\t :;,%0159afAF\"/\\?*x\x7f\xff";
  int whole_requests = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = seeds[random() % seeds.size()];
    for (unsigned change = random() % 6; change > 0; --change) {
      const std::size_t at = random() % bytes.size();
      const char c = random() % 8 == 0 ? '\0' : spice[random() % spice.size()];
      switch (random() % 4) {
        case 0:
          bytes[at] = c;
          break;
        case 1:
          bytes.insert(at, 1 + random() % 3, c);
          break;
        case 2:
          bytes.erase(at, 1 + random() % 4);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 30));
          break;
      }
      if (bytes.empty()) bytes = "\r";
    }
    // Pieces change nothing, but that an error may show later.
    RequestReader at_once(kLimits);
    RequestReader in_pieces(kLimits);
    const Progress first = feed(at_once, bytes, bytes.size());
    const Progress second = feed(in_pieces, bytes, 1 + random() % 20);
    ASSERT_EQ(first == Progress::kWhole, second == Progress::kWhole) << bytes;
    if (first != Progress::kWhole) continue;
    ++whole_requests;
    ASSERT_EQ(at_once.take().body, in_pieces.take().body) << bytes;
  }
  EXPECT_GT(whole_requests, 1000);
}

}  // namespace
}  // namespace peregrine::http
