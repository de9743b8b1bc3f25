// SPDX-License-Identifier: Apache-2.0
#include "house/walls.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

namespace peregrine::house {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxLines = 600;
constexpr std::string_view kLicence = "// SPDX-License-Identifier: Apache-2.0";

/// Where Asio and Beast may be included: they are compiled separately there, and would slow every other
/// build.
const std::set<std::string> kNetworkRooms = {"http", "channel"};

bool is_source(const fs::path& path) {
  static const std::set<std::string> kExtensions = {".h", ".cc", ".inc", ".cu", ".cuh", ".hpp", ".cpp", ".c"};
  return kExtensions.contains(path.extension().string());
}

std::vector<fs::path> sources_below(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && is_source(entry.path())) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

struct Include {
  std::string path;  // as written; empty where a macro stands instead of a file
  bool quoted = false;
};

/// What a line includes, if it does.
std::optional<Include> parse_include(std::string_view line) {
  const auto skip = [&](std::string_view blanks) {
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
  };
  skip(" \t");
  if (!line.starts_with('#')) return std::nullopt;
  line.remove_prefix(1);
  skip(" \t");
  if (!line.starts_with("include")) return std::nullopt;
  line.remove_prefix(std::string_view("include").size());
  skip(" \t");
  if (!line.starts_with('"') && !line.starts_with('<')) return Include{};
  const bool quoted = line.front() == '"';
  line.remove_prefix(1);
  return Include{std::string(line.substr(0, line.find(quoted ? '"' : '>'))), quoted};
}

/// What is wrong with an include in `room`; nothing where all is well.
std::optional<std::string> judge(const std::string& room, const Include& include, const Doors& doors) {
  if (include.path.empty()) return "includes a macro: the walls cannot be checked";
  if (include.path.starts_with("boost/asio") || include.path.starts_with("boost/beast")) {
    if (kNetworkRooms.contains(room)) return std::nullopt;
    return "includes " + include.path + ", which only http and channel may";
  }
  const std::string target = include.path.substr(0, include.path.find('/'));
  if (!doors.contains(target)) {
    if (!include.quoted) return std::nullopt;  // a library's
    return "includes " + include.path + ", which does not begin with the name of a room";
  }
  if (include.path.find("..") != std::string::npos)
    return "includes " + include.path + ", which climbs over walls";
  if (target == room) return std::nullopt;
  const auto own = doors.find(room);
  if (own != doors.end() && own->second.contains(target)) return std::nullopt;
  return "includes " + include.path + ", but " + room + " has no door to " + target;
}

/// Follows doors from `room`; adds a line for each one that leads back to a room of the way.
void find_circles(const std::string& room, const Doors& doors, std::vector<std::string>& way,
                  std::set<std::string>& finished, std::vector<std::string>& violations) {
  const auto seen = std::find(way.begin(), way.end(), room);
  if (seen != way.end()) {
    std::string circle;
    for (auto step = seen; step != way.end(); ++step) circle += *step + " -> ";
    violations.push_back("doors lead in a circle: " + circle + room);
    return;
  }
  const auto own = doors.find(room);
  if (finished.contains(room) || own == doors.end()) return;
  way.push_back(room);
  for (const std::string& door : own->second) find_circles(door, doors, way, finished, violations);
  way.pop_back();
  finished.insert(room);
}

}  // namespace

Doors parse_doors(std::string_view text) {
  Doors doors;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::istringstream words(line.substr(colon + 1));
    doors[line.substr(0, colon)] = {std::istream_iterator<std::string>(words), {}};
  }
  return doors;
}

std::vector<std::string> check_includes(const fs::path& src, const Doors& doors) {
  std::vector<std::string> violations;
  for (const fs::path& path : sources_below(src)) {
    const std::string room = path.lexically_relative(src).begin()->string();
    const std::vector<std::string> lines = lines_of(path);
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const std::optional<Include> include = parse_include(lines[i]);
      if (!include) continue;
      const std::optional<std::string> problem = judge(room, *include, doors);
      if (problem) violations.push_back(path.string() + ":" + std::to_string(i + 1) + " " + *problem);
    }
  }
  return violations;
}

std::vector<std::string> check_rooms(const fs::path& src, const Doors& doors) {
  std::vector<std::string> violations;
  std::set<std::string> rooms;
  for (const fs::path& path : sources_below(src)) {
    const fs::path relative = path.lexically_relative(src);
    if (std::distance(relative.begin(), relative.end()) < 2) {
      violations.push_back(path.string() + " is in no room");
    } else {
      rooms.insert(relative.begin()->string());
    }
  }
  for (const std::string& room : rooms) {
    if (!doors.contains(room))
      violations.push_back((src / room).string() + " has sources but is not declared as a room");
    if (!fs::exists(src / room / "README.md"))
      violations.push_back((src / room).string() + " has no README.md");
  }
  for (const auto& [room, _] : doors) {
    if (!rooms.contains(room))
      violations.push_back((src / room).string() + " is declared but has no sources");
  }
  return violations;
}

std::vector<std::string> check_doors(const Doors& doors) {
  std::vector<std::string> violations;
  std::vector<std::string> way;
  std::set<std::string> finished;
  for (const auto& [room, targets] : doors) {
    for (const std::string& target : targets) {
      if (!doors.contains(target))
        violations.push_back(room + " has a door to " + target + ", which is no room");
    }
    find_circles(room, doors, way, finished, violations);
  }
  return violations;
}

std::vector<std::string> check_files(const fs::path& root) {
  std::vector<std::string> violations;
  for (const fs::path& path : sources_below(root)) {
    const std::vector<std::string> lines = lines_of(path);
    if (lines.size() > kMaxLines) {
      violations.push_back(path.string() + " has " + std::to_string(lines.size()) + " lines; at most " +
                           std::to_string(kMaxLines) + " are one subject");
    }
    if (lines.empty() || lines.front() != kLicence) {
      violations.push_back(path.string() + " does not begin with \"" + std::string(kLicence) + "\"");
    }
  }
  return violations;
}

}  // namespace peregrine::house
