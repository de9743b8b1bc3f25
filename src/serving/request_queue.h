// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "serving/encoding.h"
#include "serving/generation.h"
#include "serving/mailbox.h"
#include "serving/vector_box.h"

namespace peregrine::serving {

/// A text to be encoded, on its way.
struct EncodeJob {
  EncodeRequest request;
  std::shared_ptr<VectorBox> box;
  std::vector<float> values = {};  ///< What came of the vector so far.
};

/// A request inside the server, from its submission to its end: to generate, or to encode.
struct Request {
  using Clock = std::chrono::steady_clock;

  struct Sequence {
    std::vector<std::int32_t> generated;  ///< Ids of the tokens so far, for a replay.
    bool ended = false;
    bool ended_early = false;  ///< In an error: a host that gets it again does not know, and goes on.
    Clock::time_point last_token{};
  };

  std::uint64_t id = 0;               ///< Unique in the server's life; grows in the order of submission.
  std::unique_ptr<EncodeJob> encode;  ///< Null where it generates.
  GenerationRequest request;          ///< Only where it generates; so are mailbox and sequences.
  std::shared_ptr<Mailbox> mailbox;
  Clock::time_point submitted{};
  Timing timing;
  bool was_sent = false;            ///< To any host.
  std::vector<Sequence> sequences;  ///< That the host reports.
  std::int32_t open = 0;            ///< Of these, those that have not ended.
  std::int32_t places = 1;          ///< Sequences of the host's batch that it takes or still has.
  std::int32_t next_prompt = 1;  ///< Position of the next token of the prompt to be delivered, if asked for.

  /// The client's, for logs.
  const std::string& client_id() const { return encode ? encode->request.request_id : request.request_id; }
  /// Tells its owner that it has failed as a whole.
  void fail(const core::Error& error) const { encode ? encode->box->fail(error) : mailbox->fail(error); }
  void publish_timing() const { encode ? encode->box->set_timing(timing) : mailbox->set_timing(timing); }
};

/// First come, first served: who waits in the server, and how many sequences the host has. Not thread-safe.
class RequestQueue {
 public:
  using Item = std::shared_ptr<Request>;

  /// Lets `max_sequences` sequences run in the host, and some more wait there so that it never idles.
  void open(std::int32_t max_sequences);
  /// Lets none through, until opened again. What is in the host keeps its places.
  void close() { is_open_ = false; }

  /// Whether a request of `sequences` sequences may come: it goes to the host at once, or finds fewer than
  /// `job_queue_size` waiting.
  bool has_room(std::int32_t sequences, std::int32_t job_queue_size) const;
  void push(const Item& item) { waiting_.emplace(item->id, item); }
  /// The next that the host has room for, which is then taken; or null.
  Item pop();
  /// Takes a waiting one away; null where it does not wait.
  Item remove(std::uint64_t id);
  /// Sequences have left the host.
  void release(std::int32_t sequences) { in_host_ -= sequences; }
  /// Takes all that wait.
  std::vector<Item> clear();

  std::size_t size() const { return waiting_.size(); }

 private:
  bool fits(std::int64_t in_host, std::int32_t sequences) const;

  std::map<std::uint64_t, Item> waiting_;
  std::int64_t capacity_ = 0;  ///< In sequences.
  std::int64_t in_host_ = 0;   ///< In sequences.
  bool is_open_ = false;
};

}  // namespace peregrine::serving
