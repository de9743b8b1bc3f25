// SPDX-License-Identifier: Apache-2.0
#include "weights/checkpoint.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "weights/safetensors_header.h"
#include "weights/shard_index.h"

namespace peregrine::weights {
namespace {

namespace fs = std::filesystem;
using core::ErrorKind;
using core::fail;

/// Where a directory's weights may be, in the order of preference. Pickles come last: they are read safely,
/// but who publishes both means the other.
struct Place {
  const char* name;
  const char* shard_extension;  ///< Null for a single file.
  bool pickle;
};
constexpr Place kPlaces[] = {{"model.safetensors", nullptr, false},
                             {"model.safetensors.index.json", ".safetensors", false},
                             {"pytorch_model.bin", nullptr, true},
                             {"pytorch_model.bin.index.json", ".bin", true}};
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

/// Says what is there instead of weights that are read.
[[noreturn]] void fail_without_weights(const fs::path& directory) {
  std::vector<std::string> others;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string extension = entry->path().extension().string();
    if (extension == ".safetensors" || extension == ".bin" || extension == ".gguf" || extension == ".pt" ||
        extension == ".pth") {
      others.push_back(entry->path().filename().string());
    }
  }
  std::sort(others.begin(), others.end());
  std::string known;
  for (const Place& place : kPlaces) known += (known.empty() ? "" : ", ") + std::string(place.name);
  fail(ErrorKind::kNotFound, "{} has none of {}; {}", directory.string(), known,
       others.empty() ? "there are no other weights" : "found instead: " + first_of(others));
}

[[noreturn]] void refuse_pickle(const fs::path& path) {
  fail(ErrorKind::kUnsupported,
       "{}: the weights are pickled, which option.allow_pickle=false does not allow (SageMaker's secure mode "
       "with DISALLOW_PICKLE_FILES sets it); save them as safetensors",
       path.string());
}

/// Advises the system about the pages of the file that a tensor touches.
void advise(const StoredTensor& tensor, int advice) {
  const std::span<const std::byte> bytes = tensor.copy != nullptr ? tensor.copy->source() : tensor.data;
  if (bytes.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  // Pages shared with neighbours are included: dropping one costs a neighbour's reader a minor fault, whereas
  // leaving them out would keep each page that only small tensors share resident for ever.
  const std::uintptr_t begin = address / page * page;
  const std::uintptr_t end = address + bytes.size();
  // Advice only: a system that does not take it still gives right bytes.
  static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, advice));
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& model_dir, const Options& options) {
  std::error_code error;
  if (!fs::is_directory(model_dir, error)) {
    fail(ErrorKind::kNotFound, "model directory {} does not exist or is not a directory", model_dir.string());
  }
  Checkpoint checkpoint;
  checkpoint.directory_ = model_dir;
  const auto* place = std::find_if(std::begin(kPlaces), std::end(kPlaces),
                                   [&](const Place& known) { return has_entry(model_dir / known.name); });
  if (place == std::end(kPlaces)) fail_without_weights(model_dir);
  if (place->pickle && !options.allow_pickle) refuse_pickle(model_dir / place->name);
  checkpoint.opened_ = model_dir / place->name;
  if (place->shard_extension == nullptr) {
    checkpoint.open_file(checkpoint.opened_);
    checkpoint.collect_names();
  } else {
    checkpoint.open_shards(checkpoint.opened_, place->shard_extension);
  }
  return checkpoint;
}

void Checkpoint::open_file(const fs::path& path) {
  if (path.extension() == ".bin") {
    torch_files_.emplace_back(path);
  } else {
    safetensors_.emplace_back(path);
  }
}

void Checkpoint::open_shards(const fs::path& path, std::string_view extension) {
  const std::string where = path.string();
  const ShardIndex index = parse_shard_index(core::read_file(path, kMaxIndex), where, extension);
  for (const auto& shard : index.shards) {
    if (!has_entry(directory_ / shard)) {
      fail(ErrorKind::kNotFound, "{}: shard {} is not in the directory", where, core::quoted(shard));
    }
    open_file(directory_ / shard);
  }
  collect_names();
  for (const auto& entry : index.entries) {
    const StoredTensor* tensor = describe(entry.tensor);
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
  const auto collect = [this](std::span<const StoredTensor> tensors) {
    for (const auto& tensor : tensors) {
      by_name_.push_back(&tensor);
      total_bytes_ += tensor.copy != nullptr ? tensor.copy->size() : tensor.data.size();
    }
  };
  for (const auto& file : safetensors_) collect(file.tensors());
  for (const auto& file : torch_files_) collect(file.tensors());
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

const StoredTensor* Checkpoint::describe(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [](const auto* tensor, std::string_view key) { return tensor->name < key; });
  return found != by_name_.end() && (*found)->name == name ? *found : nullptr;
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const StoredTensor* tensor = describe(name);
  if (tensor != nullptr && tensor->copy != nullptr) tensor->copy->make();
  return tensor;
}

const StoredTensor& Checkpoint::check(std::string_view name, std::span<const std::int64_t> shape) const {
  const StoredTensor* tensor = describe(name);
  if (tensor == nullptr) {
    fail(ErrorKind::kNotFound, "{}: tensor {} of shape {} is missing; found {} other tensors",
         opened_.string(), core::quoted(name, 200), shape_text(shape), by_name_.size());
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    fail(ErrorKind::kInvalidArgument, "{}: tensor {} must have shape {}, found {} ({})",
         tensor->file->string(), core::quoted(name, 200), shape_text(shape), shape_text(tensor->shape),
         safetensors_dtype_name(tensor->dtype));
  }
  return *tensor;
}

const StoredTensor& Checkpoint::require(std::string_view name, std::span<const std::int64_t> shape) const {
  const StoredTensor& tensor = check(name, shape);
  if (tensor.copy != nullptr) tensor.copy->make();
  return tensor;
}

std::vector<std::string_view> Checkpoint::names() const {
  std::vector<std::string_view> out;
  out.reserve(by_name_.size());
  for (const auto* tensor : by_name_) out.emplace_back(tensor->name);
  return out;
}

void Checkpoint::will_need(const StoredTensor& tensor) const { advise(tensor, MADV_WILLNEED); }

void Checkpoint::release(const StoredTensor& tensor) const {
  if (tensor.copy != nullptr) tensor.copy->drop();
  advise(tensor, MADV_DONTNEED);
}

}  // namespace peregrine::weights
