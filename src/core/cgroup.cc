// SPDX-License-Identifier: Apache-2.0
#include "core/cgroup.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::core {
namespace {

namespace fs = std::filesystem;

constexpr double kUnlimited = std::numeric_limits<double>::infinity();
/// Deeper than systemd, containers and pods ever nest; a bound for odd files.
constexpr int kDeepest = 64;

bool has_item(std::string_view list, std::string_view item) {
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    if (list.substr(begin, end - begin) == item) return true;
    begin = end + 1;
  }
  return false;
}

/// Spaces and the like stand as \040 in mountinfo (proc(5)).
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_octal = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] == '\\' && is_octal(i + 1) && is_octal(i + 2) && is_octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// A hierarchy of groups as far as this process sees it.
struct Hierarchy {
  bool v2 = false;
  fs::path group;  ///< Of the process, from the hierarchy's root.
  fs::path top;    ///< The group that is mounted, likewise.
  fs::path mount;  ///< Where.
};

/// The process's group in version 2 or in the hierarchy of version 1 that has the cpu controller: lines
/// "0::/path" and "4:cpu,cpuacct:/path".
std::optional<fs::path> find_group(const fs::path& root, bool v2) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    const bool is_v2 = line.starts_with("0:") && controllers.empty();
    if (v2 ? is_v2 : has_item(controllers, "cpu")) return fs::path(line.substr(second + 1));
  }
  return std::nullopt;
}

/// Where the hierarchies are mounted: lines "36 35 98:0 ROOT MOUNT OPTIONS [TAGS] - TYPE SOURCE
/// SUPER-OPTIONS".
std::vector<Hierarchy> find_hierarchies(const fs::path& root) {
  std::vector<Hierarchy> out;
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, top, mount, word, type, source, options;
    if (!(words >> id >> parent >> device >> top >> mount)) continue;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> options;
    const bool v2 = type == "cgroup2";
    if (!v2 && (type != "cgroup" || !has_item(options, "cpu"))) continue;
    const auto group = find_group(root, v2);
    if (!group) continue;
    out.push_back({v2, *group, unescape(top), root / fs::path(unescape(mount)).relative_path()});
  }
  return out;
}

/// The quota of one group; unlimited where its files say so, are odd or are not there.
double quota_of(const fs::path& directory, bool v2) {
  std::string quota;
  double period = 0;
  if (v2) {
    std::ifstream file(directory / "cpu.max");
    if (!(file >> quota >> period)) return kUnlimited;
  } else {
    std::ifstream quota_file(directory / "cpu.cfs_quota_us");
    std::ifstream period_file(directory / "cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return kUnlimited;
  }
  std::istringstream number(quota);
  double time = 0;
  if (!(number >> time) || time <= 0 || period <= 0) return kUnlimited;  // "max", -1
  return time / period;
}

/// The smallest quota from the process's group up to the one that is mounted.
double smallest_quota(const Hierarchy& hierarchy) {
  fs::path inside = hierarchy.group.lexically_relative(hierarchy.top);
  // A group outside of what is mounted is that of a container that sees only its own: the mount.
  if (inside.empty() || *inside.begin() == "..") inside = ".";
  fs::path directory = hierarchy.mount / inside;
  double smallest = kUnlimited;
  for (int depth = 0; depth < kDeepest; ++depth) {
    smallest = std::min(smallest, quota_of(directory, hierarchy.v2));
    if (directory.lexically_normal() == (hierarchy.mount / ".").lexically_normal()) break;
    directory = directory.lexically_normal().parent_path();
    if (directory.native().size() <= hierarchy.mount.native().size()) directory = hierarchy.mount / ".";
  }
  return smallest;
}

}  // namespace

double cpu_quota(const fs::path& root) {
  double smallest = kUnlimited;
  for (const Hierarchy& hierarchy : find_hierarchies(root)) {
    smallest = std::min(smallest, smallest_quota(hierarchy));
  }
  return smallest;
}

}  // namespace peregrine::core
