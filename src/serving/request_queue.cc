// SPDX-License-Identifier: Apache-2.0
#include "serving/request_queue.h"

#include <algorithm>
#include <utility>

namespace peregrine::serving {
namespace {

/// Sequences that wait in the host for a place in its batch: enough to fill it in the next step, few enough
/// that order and cancellation stay in the server's hands.
constexpr std::int32_t kMostAhead = 8;

}  // namespace

void RequestQueue::open(std::int32_t max_sequences) {
  capacity_ = std::int64_t{max_sequences} + std::min(kMostAhead, max_sequences);
  is_open_ = true;
}

bool RequestQueue::fits(std::int64_t in_host, std::int32_t sequences) const {
  // One that is larger than the host (which then was restarted with less) is for the host to refuse.
  return is_open_ && (in_host == 0 || in_host + sequences <= capacity_);
}

bool RequestQueue::has_room(std::int32_t sequences, std::int32_t job_queue_size) const {
  // Those at the front that are only on their way to the host do not count as waiting.
  std::int64_t in_host = in_host_;
  std::size_t passing = 0;
  for (const auto& [id, item] : waiting_) {
    if (!fits(in_host, item->places)) break;
    in_host += item->places;
    ++passing;
  }
  if (passing == waiting_.size() && fits(in_host, sequences)) return true;
  return waiting_.size() - passing < static_cast<std::size_t>(job_queue_size);
}

RequestQueue::Item RequestQueue::pop() {
  if (waiting_.empty()) return nullptr;
  const auto first = waiting_.begin();
  const std::int32_t sequences = first->second->places;
  if (!fits(in_host_, sequences)) return nullptr;
  in_host_ += sequences;
  Item item = std::move(first->second);
  waiting_.erase(first);
  return item;
}

RequestQueue::Item RequestQueue::remove(std::uint64_t id) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return nullptr;
  Item item = std::move(found->second);
  waiting_.erase(found);
  return item;
}

std::vector<RequestQueue::Item> RequestQueue::clear() {
  std::vector<Item> items;
  for (auto& [id, item] : waiting_) items.push_back(std::move(item));
  waiting_.clear();
  return items;
}

}  // namespace peregrine::serving
