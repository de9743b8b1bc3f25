// SPDX-License-Identifier: Apache-2.0
// peregrine_bad_host PLAN COUNTER PROGRAM ARGUMENT...
// PLAN is a list of words with commas between; the k-th start (counted in the file COUNTER) does what the
// k-th word says, later ones what the last says. "echo" runs PROGRAM in its place.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "channel/host_link.h"

namespace {

namespace wire = peregrine::channel::wire;
using peregrine::channel::HostLink;

/// How many were started before this one. Hosts of several models start at the same time.
int count_start(const std::string& counter) {
  const int lock = ::open((counter + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ::flock(lock, LOCK_EX);
  int starts = 0;
  std::ifstream(counter) >> starts;
  std::ofstream(counter) << starts + 1;
  ::close(lock);
  return starts;
}

std::string word_of_this_start(const std::string& plan, const std::string& counter) {
  const int starts = count_start(counter);
  std::istringstream words(plan);
  std::string word;
  for (int i = 0; i <= starts && std::getline(words, word, ',');) ++i;
  return word;
}

/// What this process was given, for a test to read.
void report(const std::string& path) {
  std::ofstream out(path);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    // The listing itself has a descriptor, and so has this report.
    const std::string name = target.string();
    if (error || name == path || name.ends_with("/fd")) continue;
    out << "fd " << entry.path().filename().string() << ' ' << name << '\n';
  }
  out << "pgid " << getpgrp() << '\n';
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("SigBlk") || line.starts_with("SigIgn")) out << line << '\n';
  }
}

/// The answer to a Submit that no good host would give.
wire::FromHost wrong_answer(const std::string& word, const wire::Submit& submit) {
  wire::FromHost message;
  wire::Events& events = *message.mutable_events();
  events.set_model(word == "wrong-model" ? "another" : submit.model());
  wire::SequenceEvent& event = *events.add_sequences();
  event.set_request(submit.request());
  event.add_tokens()->set_id(word == "wrong-token" ? 1 << 30 : 1);
  if (word == "wrong-prompt") event.add_prompt()->set_id(submit.prompt_ids(1) + 1);
  if (word == "prompt-gap") event.add_prompt()->set_id(submit.prompt_ids(2));
  if (word == "wrong-prompt" || word == "prompt-gap") event.set_prompt_start(word == "prompt-gap" ? 2 : 1);
  if (word == "wrong-top") event.mutable_tokens(0)->add_top()->set_id(-1);
  if (word == "wrong-sequence") event.set_sequence(submit.sampling().n());
  if (word == "negative-sequence") event.set_sequence(-1);
  if (word == "wrong-finish") event.set_finish(static_cast<wire::Finish>(77));
  if (word == "too-many-tokens") {
    for (int i = 0; i < submit.sampling().max_new_tokens(); ++i) event.add_tokens()->set_id(1);
  }
  if (word == "failed") message.mutable_failed()->mutable_error()->set_message("the device is on fire");
  if (word == "sequence-error") {
    event.set_sequence(submit.sampling().n() - 1);
    event.set_finish(wire::ERROR);
    event.set_error("not a number");
  }
  return message;
}

/// The beginning of a vector, or one that is none.
wire::FromHost wrong_vector(const std::string& word, const wire::Submit& submit) {
  wire::FromHost message;
  wire::Result& result = *message.mutable_result();
  result.set_model(submit.model());
  result.set_request(submit.request());
  const int size = word == "half-vector" ? 2 : word == "short-vector" ? 3 : word == "long-vector" ? 5 : 4;
  for (int i = 0; i < size; ++i) result.add_values(word == "nan-vector" ? std::nanf("") : -1.0f);
  result.set_last(word != "half-vector");
  return message;
}

/// One line for a Submit.
void record(const std::string& path, const wire::Submit& submit) {
  std::ofstream out(path, std::ios::app);
  out << "request=" << submit.request() << " seed=" << submit.seed() << " prompt=";
  for (const std::int32_t id : submit.prompt_ids()) out << id << ',';
  out << " generated=";
  for (const wire::TokenList& list : submit.generated()) {
    for (const std::int32_t id : list.ids()) out << id;
    out << '|';
  }
  out << '\n';
}

/// One line for a piece of the vocabulary: how many tokens, how many bytes, and whether it is the last.
void record_vocabulary(const std::string& path, const wire::Vocabulary& piece) {
  std::size_t bytes = 0;
  for (const std::string& token : piece.tokens()) bytes += token.size();
  std::ofstream(path, std::ios::app) << "vocabulary tokens=" << piece.tokens_size() << " bytes=" << bytes
                                     << " last=" << piece.last() << '\n';
}

void load(HostLink& link, const std::string& word, const wire::LoadModel& load) {
  wire::FromHost message;
  if (word == "fail-load") {
    message.mutable_load_failed()->set_model(load.model());
    message.mutable_load_failed()->mutable_error()->set_message("there is no room");
    message.mutable_load_failed()->mutable_error()->set_kind(wire::Error::OVERLOADED);
    link.send(message);
    return;
  }
  wire::Loaded& loaded = *message.mutable_loaded();
  loaded.set_model(word == "loads-another" ? "another" : load.model());
  loaded.set_vocab_size(100);
  loaded.set_max_model_length(1000);
  loaded.set_max_sequences(4);
  if (word.ends_with("-vector") && word != "stray-vector") loaded.set_embedding_size(4);
  if (word == "die-in-load") _exit(3);
  link.send(message);
  if (word == "die-after-load") abort();
}

/// Says the wrong things until the server has had enough.
void misbehave(int fd, const std::string& word, const std::string& counter) {
  HostLink link(fd);
  wire::ToHost message;
  if (word == "silent") {
    while (link.receive(message)) {
    }
    return;
  }
  if (word == "no-hello" || word == "wrong-protocol" || word == "wrong-epoch") {
    link.receive(message);
    wire::FromHost answer;
    if (word == "no-hello") {
      answer.mutable_pong();
    } else {
      answer.mutable_hello()->set_protocol(word == "wrong-protocol" ? 4711 : message.hello().protocol());
      answer.mutable_hello()->set_epoch(message.hello().epoch() + 1);
      answer.mutable_hello()->set_version("8.15");
    }
    link.send(answer);
  } else {
    link.greet("bad", {"generate"});
  }
  if (word == "garbage") {
    const std::string bytes(64, '\xff');
    if (write(fd, bytes.data(), bytes.size()) < 0) return;
  }
  while (link.receive(message)) {
    if (message.has_load_model()) load(link, word, message.load_model());
    if (message.has_submit() && word == "record") record(counter + ".record", message.submit());
    if (message.has_vocabulary()) record_vocabulary(counter + ".record", message.vocabulary());
    if (!message.has_submit()) continue;
    link.send(word.ends_with("-vector") ? wrong_vector(word, message.submit())
                                        : wrong_answer(word, message.submit()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const std::string word = word_of_this_start(argv[1], argv[2]);
  if (word == "die") return 7;
  if (word == "report") report(std::string(argv[2]) + ".report");
  if (word == "echo" || word == "report") {
    execv(argv[3], argv + 3);
    return 127;
  }
  misbehave(std::stoi(argv[argc - 1]), word, argv[2]);
  return 0;
}
