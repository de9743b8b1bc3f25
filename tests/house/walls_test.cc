// SPDX-License-Identifier: Apache-2.0
#include "house/walls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "support/test_data.h"

namespace peregrine::house {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const fs::path kRoot = PEREGRINE_SOURCE_DIR;

Doors declared_doors() {
  std::ifstream file(PEREGRINE_DOORS_FILE);
  return parse_doors(std::string(std::istreambuf_iterator<char>(file), {}));
}

/// One violation a line.
std::string listed(const std::vector<std::string>& violations) {
  std::string text;
  for (const std::string& violation : violations) text += "\n" + violation;
  return text;
}

TEST(TheHouse, DeclaresItsRooms) {
  EXPECT_THAT(declared_doors(), ::testing::Contains(::testing::Key("core")));
  EXPECT_EQ(listed(check_rooms(kRoot / "src", declared_doors())), "");
}

TEST(TheHouse, HasNoCircles) { EXPECT_EQ(listed(check_doors(declared_doors())), ""); }

TEST(TheHouse, IncludesThroughDoorsOnly) {
  EXPECT_EQ(listed(check_includes(kRoot / "src", declared_doors())), "");
}

TEST(TheHouse, FilesAreShortAndLicensed) {
  EXPECT_EQ(listed(check_files(kRoot / "src")), "");
  EXPECT_EQ(listed(check_files(kRoot / "tests")), "");
}

/// A house of paper: the checks must find what is wrong with it.
class PaperHouse : public ::testing::Test {
 protected:
  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((src_ / path).parent_path());
    std::ofstream(src_ / path) << text;
  }

  testing::TemporaryDirectory folder_;
  const fs::path src_ = folder_.path() / "src";
  const Doors doors_ = parse_doors("core: \nops: core\nmodel: ops core\nengine: model\nhttp: core\n");
};

TEST_F(PaperHouse, DoorsAreParsed) {
  EXPECT_EQ(doors_.size(), 5u);
  EXPECT_TRUE(doors_.at("core").empty());
  EXPECT_THAT(doors_.at("model"), ElementsAre("core", "ops"));
  EXPECT_THAT(check_doors(doors_), IsEmpty());
}

TEST_F(PaperHouse, DirectDoorsAndLibrariesMayBeUsed) {
  write("model/decoder.h", "#include <vector>\n#include <boost/json.hpp>\n#include \"core/error.h\"\n");
  write("model/families/falcon.cc", "#include \"model/decoder.h\"\n#include \"ops/device.h\"\n");
  write("http/server.cc", "#include <boost/beast/http.hpp>\n// see \"engine/engine.h\"\n");
  EXPECT_THAT(check_includes(src_, doors_), IsEmpty());
}

TEST_F(PaperHouse, WallsAreFound) {
  write("core/error.h", "// fine\n#include \"ops/device.h\"\n");                           // upwards
  write("engine/engine.cc", "#include \"model/decoder.h\"\n#include \"ops/device.h\"\n");  // a door of a door
  write("model/deep/er/file.inc", "  #  include <engine/engine.h>\n");                     // in any spelling
  write("ops/cpu/kernel.cc", "#include \"../../model/decoder.h\"\n#include \"core/../model/decoder.h\"\n");
  write("http/server.cc", "#include \"kernel.h\"\n#include KERNEL\n");
  EXPECT_THAT(
      check_includes(src_, doors_),
      UnorderedElementsAre(HasSubstr("core/error.h:2 includes ops/device.h, but core has no door to ops"),
                           HasSubstr("engine.cc:2 includes ops/device.h, but engine has no door to ops"),
                           HasSubstr("file.inc:1 includes engine/engine.h, but model has no door to engine"),
                           HasSubstr("kernel.cc:1 includes ../../model/decoder.h"),
                           HasSubstr("kernel.cc:2 includes core/../model/decoder.h, which climbs"),
                           HasSubstr("server.cc:1 includes kernel.h, which does not begin"),
                           HasSubstr("server.cc:2 includes a macro")));
}

TEST_F(PaperHouse, TheNetworkStaysInItsRooms) {
  write("core/files.cc",
        "#include <boost/asio.hpp>\n#include <boost/asio/ip/tcp.hpp>\n#include \"boost/beast.hpp\"\n");
  write("http/server.cc", "#include <boost/asio.hpp>\n");
  EXPECT_THAT(check_includes(src_, doors_),
              ElementsAre(HasSubstr("boost/asio.hpp"), HasSubstr("boost/asio/ip/tcp.hpp"),
                          HasSubstr("boost/beast.hpp")));
}

TEST_F(PaperHouse, CirclesAreFound) {
  EXPECT_THAT(check_doors(parse_doors("a: b\nb: c\nc: b\nd: a\n")), ElementsAre(HasSubstr("b -> c -> b")));
  EXPECT_THAT(check_doors(parse_doors("a: a\n")), ElementsAre(HasSubstr("a -> a")));
  EXPECT_THAT(check_doors(parse_doors("a: attic\n")),
              ElementsAre(HasSubstr("a has a door to attic, which is no room")));
}

TEST_F(PaperHouse, UndeclaredRoomsAndMissingReadmesAreFound) {
  for (const char* room : {"core", "ops", "model", "engine"}) {
    write(fs::path(room) / "file.cc", "");
    write(fs::path(room) / "README.md", "");
  }
  fs::remove(src_ / "ops" / "README.md");
  write("attic/deep/file.h", "");
  write("attic/README.md", "");
  write("stray.cc", "");
  write("drawings/plan.txt", "");
  EXPECT_THAT(check_rooms(src_, doors_),
              UnorderedElementsAre(
                  HasSubstr("ops has no README.md"), HasSubstr("attic has sources but is not declared"),
                  HasSubstr("stray.cc is in no room"), HasSubstr("http is declared but has no sources")));
}

TEST_F(PaperHouse, LongAndUnlicensedFilesAreFound) {
  const std::string licence = "// SPDX-License-Identifier: Apache-2.0\n";
  std::string longest = licence;
  for (int i = 1; i < 600; ++i) longest += "\n";
  write("core/good.h", licence);
  write("core/longest.h", longest);
  write("core/too_long.cc", longest + "\n");
  write("core/bare.inc", "#pragma once\n");
  write("core/empty.cu", "");
  write("core/CMakeLists.txt", "# no source\n");
  EXPECT_THAT(check_files(src_), UnorderedElementsAre(HasSubstr("too_long.cc has 601 lines; at most 600"),
                                                      HasSubstr("bare.inc does not begin with"),
                                                      HasSubstr("empty.cu does not begin with")));
}

}  // namespace
}  // namespace peregrine::house
