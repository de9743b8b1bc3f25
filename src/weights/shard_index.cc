// SPDX-License-Identifier: Apache-2.0
#include "weights/shard_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "weights/json_events.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::string_view kMapKey = "weight_map";

/// Reads "weight_map" and passes over everything else ("metadata" holds sizes that are often wrong).
class IndexSink final : public JsonSink {
 public:
  IndexSink(std::string_view where, std::string_view extension, ShardIndex& index)
      : where_(where), extension_(extension), index_(index) {}

  bool found() const { return found_; }

  void begin_object() override {
    if (depth_ == 1 && key_ == kMapKey) {
      if (std::exchange(found_, true)) {
        fail(ErrorKind::kInvalidArgument, "{}: '{}' is given twice", where_, kMapKey);
      }
      in_map_ = true;
    } else if (in_map_) {
      refuse("an object");
    }
    ++depth_;
  }
  void end_object() override {
    --depth_;
    if (depth_ == 1) in_map_ = false;
  }
  void begin_array() override {
    scalar("an array");
    ++depth_;
  }
  void end_array() override { --depth_; }
  void key(std::string_view name) override {
    if (in_map_) tensor_ = name;
    if (depth_ == 1) key_ = name;
  }
  void string(std::string_view text) override {
    if (!in_map_) return scalar("a string");
    const auto next = static_cast<std::uint32_t>(shards_.size());
    auto shard = shards_.find(text);
    if (shard == shards_.end()) {
      check_shard(text);
      shard = shards_.emplace(text, next).first;
    }
    index_.entries.push_back({tensor_, shard->second});
  }
  void integer(std::uint64_t number) override { scalar(fmt::format("the number {}", number)); }
  void other(std::string_view description) override { scalar(description); }

  /// Sorts shards and entries.
  void finish() {
    std::vector<std::uint32_t> position(shards_.size());
    for (const auto& [name, first_seen] : shards_) {
      position[first_seen] = static_cast<std::uint32_t>(index_.shards.size());
      index_.shards.push_back(name);
    }
    for (auto& entry : index_.entries) entry.shard = position[entry.shard];
    std::sort(index_.entries.begin(), index_.entries.end(),
              [](const auto& a, const auto& b) { return a.tensor < b.tensor; });
    const auto twice = std::adjacent_find(index_.entries.begin(), index_.entries.end(),
                                          [](const auto& a, const auto& b) { return a.tensor == b.tensor; });
    if (twice != index_.entries.end()) {
      fail(ErrorKind::kInvalidArgument, "{}: '{}': tensor {} is given twice", where_, kMapKey,
           core::quoted(twice->tensor));
    }
  }

 private:
  void scalar(std::string_view found) const {
    if (depth_ == 0 || in_map_ || (depth_ == 1 && key_ == kMapKey)) refuse(found);
  }

  [[noreturn]] void refuse(std::string_view found) const {
    constexpr auto kind = ErrorKind::kInvalidArgument;
    if (depth_ == 0) fail(kind, "{}: must be an object, found {}", where_, found);
    if (!in_map_) fail(kind, "{}: '{}' must be an object, found {}", where_, kMapKey, found);
    fail(kind, "{}: '{}': tensor {} must be the file name of a shard, found {}", where_, kMapKey,
         core::quoted(tensor_), found);
  }

  /// A shard lies beside its index: a name that leads elsewhere would let a downloaded model read other
  /// files.
  void check_shard(std::string_view name) const {
    constexpr std::string_view kForbidden("/\\\0", 3);
    if (name.find_first_of(kForbidden) != std::string_view::npos ||
        name.find("..") != std::string_view::npos) {
      fail(ErrorKind::kInvalidArgument,
           "{}: '{}': tensor {}: shard {} must be a plain file name, without path separators or '..'", where_,
           kMapKey, core::quoted(tensor_), core::quoted(name));
    }
    if (!name.ends_with(extension_)) {
      fail(ErrorKind::kInvalidArgument, "{}: '{}': tensor {}: shard {} must end in {}", where_, kMapKey,
           core::quoted(tensor_), core::quoted(name), extension_);
    }
  }

  std::string_view where_;
  std::string_view extension_;
  ShardIndex& index_;
  std::map<std::string, std::uint32_t, std::less<>> shards_;
  int depth_ = 0;
  bool in_map_ = false;
  bool found_ = false;
  std::string key_;
  std::string tensor_;
};

}  // namespace

ShardIndex parse_shard_index(std::string_view json, std::string_view where, std::string_view extension) {
  ShardIndex index;
  IndexSink sink(where, extension, index);
  read_json(json, where, sink);
  if (!sink.found()) fail(ErrorKind::kInvalidArgument, "{}: '{}' is missing", where, kMapKey);
  sink.finish();
  if (index.entries.empty()) fail(ErrorKind::kInvalidArgument, "{}: '{}' is empty", where, kMapKey);
  return index;
}

}  // namespace peregrine::weights
