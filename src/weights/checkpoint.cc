// SPDX-License-Identifier: Apache-2.0
#include "weights/checkpoint.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "weights/safetensors_header.h"
#include "weights/safetensors_index.h"

namespace peregrine::weights {
namespace {

namespace fs = std::filesystem;
using core::ErrorKind;
using core::fail;

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr std::uint64_t kMaxIndex = 100'000'000;
constexpr std::size_t kMaxListed = 5;

/// Whether the directory has such an entry. A link that leads nowhere is one: opening it gives the better
/// message.
bool has_entry(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

std::string first_of(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kMaxListed); ++i) out += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kMaxListed) out += fmt::format(" and {} more", names.size() - kMaxListed);
  return out;
}

/// Says what is there instead of safetensors weights.
[[noreturn]] void fail_without_weights(const fs::path& directory) {
  std::vector<std::string> pickles, others;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const std::string extension = entry->path().extension().string();
    if (name.starts_with("pytorch_model") || (name.starts_with("consolidated") && extension == ".pth")) {
      pickles.push_back(name);
    } else if (extension == ".safetensors" || extension == ".bin" || extension == ".gguf" ||
               extension == ".pt") {
      others.push_back(name);
    }
  }
  std::sort(pickles.begin(), pickles.end());
  std::sort(others.begin(), others.end());
  if (!pickles.empty()) {
    fail(ErrorKind::kUnsupported,
         "{} has its weights only as PyTorch pickles ({}); this version reads safetensors only",
         directory.string(), first_of(pickles));
  }
  fail(ErrorKind::kNotFound, "{} has neither {} nor {}; {}", directory.string(), kSingleName, kIndexName,
       others.empty() ? "there are no other weights" : "found instead: " + first_of(others));
}

/// Advises the system about the pages that a tensor touches.
void advise(const StoredTensor& tensor, int advice) {
  if (tensor.data.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data.data());
  // Pages shared with neighbours are included: dropping one costs a neighbour's reader a minor fault, whereas
  // leaving them out would keep each page that only small tensors share resident for ever.
  const std::uintptr_t begin = address / page * page;
  const std::uintptr_t end = address + tensor.data.size();
  // Advice only: a system that does not take it still gives right bytes.
  static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, advice));
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& model_dir) {
  std::error_code error;
  if (!fs::is_directory(model_dir, error)) {
    fail(ErrorKind::kNotFound, "model directory {} does not exist or is not a directory", model_dir.string());
  }
  Checkpoint checkpoint;
  checkpoint.directory_ = model_dir;
  if (has_entry(model_dir / kSingleName)) {
    checkpoint.files_.emplace_back(model_dir / kSingleName);
    checkpoint.collect_names();
  } else if (has_entry(model_dir / kIndexName)) {
    checkpoint.open_shards(model_dir / kIndexName);
  } else {
    fail_without_weights(model_dir);
  }
  return checkpoint;
}

void Checkpoint::open_shards(const fs::path& path) {
  const std::string where = path.string();
  const SafetensorsIndex index = parse_safetensors_index(core::read_file(path, kMaxIndex), where);
  files_.reserve(index.shards.size());
  for (const auto& shard : index.shards) {
    if (!has_entry(directory_ / shard)) {
      fail(ErrorKind::kNotFound, "{}: shard {} is not in the directory", where, core::quoted(shard));
    }
    files_.emplace_back(directory_ / shard);
  }
  collect_names();
  for (const auto& entry : index.entries) {
    const StoredTensor* tensor = find(entry.tensor);
    const std::string& shard = index.shards[entry.shard];
    if (tensor == nullptr) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {} should be in shard {}, but no shard has it", where,
           core::quoted(entry.tensor), core::quoted(shard));
    }
    if (tensor->file->filename() != shard) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {} should be in shard {}, but is in {}", where,
           core::quoted(entry.tensor), core::quoted(shard), core::quoted(tensor->file->filename().string()));
    }
  }
}

void Checkpoint::collect_names() {
  for (const auto& file : files_) {
    for (const auto& tensor : file.tensors()) {
      by_name_.push_back(&tensor);
      total_bytes_ += tensor.data.size();
    }
  }
  std::sort(by_name_.begin(), by_name_.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  // One file cannot hold a name twice (its header has been checked), so these are two shards.
  const auto twice = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                        [](const auto* a, const auto* b) { return a->name == b->name; });
  if (twice != by_name_.end()) {
    fail(ErrorKind::kInvalidArgument, "{}: tensor {} is in two shards, {} and {}", directory_.string(),
         core::quoted((*twice)->name), core::quoted((*twice)->file->filename().string()),
         core::quoted((*std::next(twice))->file->filename().string()));
  }
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [](const auto* tensor, std::string_view key) { return tensor->name < key; });
  return found != by_name_.end() && (*found)->name == name ? *found : nullptr;
}

const StoredTensor& Checkpoint::require(std::string_view name, std::span<const std::int64_t> shape) const {
  const StoredTensor* tensor = find(name);
  if (tensor == nullptr) {
    const auto& file = files_.size() == 1 ? files_.front().path() : directory_ / kIndexName;
    fail(ErrorKind::kNotFound, "{}: tensor {} of shape {} is missing; found {} other tensors", file.string(),
         core::quoted(name, 200), shape_text(shape), by_name_.size());
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    fail(ErrorKind::kInvalidArgument, "{}: tensor {} must have shape {}, found {} ({})",
         tensor->file->string(), core::quoted(name, 200), shape_text(shape), shape_text(tensor->shape),
         safetensors_dtype_name(tensor->dtype));
  }
  return *tensor;
}

std::vector<std::string_view> Checkpoint::names() const {
  std::vector<std::string_view> out;
  out.reserve(by_name_.size());
  for (const auto* tensor : by_name_) out.emplace_back(tensor->name);
  return out;
}

void Checkpoint::will_need(const StoredTensor& tensor) const { advise(tensor, MADV_WILLNEED); }

void Checkpoint::release(const StoredTensor& tensor) const { advise(tensor, MADV_DONTNEED); }

}  // namespace peregrine::weights
