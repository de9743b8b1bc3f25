// SPDX-License-Identifier: Apache-2.0
#include "decoding/stop_strings.h"

#include <algorithm>
#include <string_view>

namespace peregrine::decoding {

StopStrings::StopStrings(const std::vector<std::string>& strings, const TokenBytes* bytes) : bytes_(bytes) {
  if (bytes == nullptr) return;
  for (const std::string& string : strings) {
    if (string.empty()) continue;
    strings_.push_back(string);
    longest_ = std::max(longest_, string.size());
  }
}

const std::string& StopStrings::bytes_of(std::int32_t token) const {
  const auto index = static_cast<std::size_t>(token);
  return index < bytes_->size() ? (*bytes_)[index] : none_;
}

bool StopStrings::completes(const std::string& tail, std::int32_t token) const {
  const std::string_view added = bytes_of(token);
  if (added.empty()) return false;
  for (const std::string& string : strings_) {
    if (added.find(string) != std::string_view::npos) return true;
    // Matches that begin in the tail: `before` bytes of the string there, the others at the front of what is
    // added, where there must be room for them.
    const std::size_t least = string.size() - std::min(string.size() - 1, added.size());
    for (std::size_t before = std::min(tail.size(), string.size() - 1); before >= least; --before) {
      const std::string_view rest = std::string_view(string).substr(before);
      if (added.starts_with(rest) && tail.ends_with(std::string_view(string).substr(0, before))) return true;
    }
  }
  return false;
}

void StopStrings::append(std::string& tail, std::int32_t token) const {
  const std::string_view added = bytes_of(token);
  const std::size_t keep = longest_ - 1;
  if (added.size() >= keep) {
    tail.assign(added.substr(added.size() - keep));
    return;
  }
  tail.erase(0, tail.size() - std::min(tail.size(), keep - added.size()));
  tail.append(added);
}

}  // namespace peregrine::decoding
