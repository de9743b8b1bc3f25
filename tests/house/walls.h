// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

// The rules of the house that a program can check. Every function returns one line for each violation, none
// where all is well.

namespace peregrine::house {

/// For each room, the rooms whose headers it may include.
using Doors = std::map<std::string, std::set<std::string>>;

/// Reads lines of "room: door door ...".
Doors parse_doors(std::string_view text);

/// Includes in `src`/<room>/ of another room's headers without a direct door to it, or of anything in quotes
/// that is not named from a room; and Boost.Asio and Beast outside of their rooms.
std::vector<std::string> check_includes(const std::filesystem::path& src, const Doors& doors);

/// Rooms with sources that are not declared, declared ones that are missing, rooms without a README.md, files
/// outside of rooms.
std::vector<std::string> check_rooms(const std::filesystem::path& src, const Doors& doors);

/// Doors to rooms that are not declared, and circles of doors.
std::vector<std::string> check_doors(const Doors& doors);

/// Sources below `root` of more than 600 lines, or whose first line is not the licence's.
std::vector<std::string> check_files(const std::filesystem::path& root);

}  // namespace peregrine::house
