// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "weights/safetensors.h"
#include "weights/tensor.h"
#include "weights/torch_file.h"

namespace peregrine::weights {

/// The stored tensors of a model directory: model.safetensors, or all shards that
/// model.safetensors.index.json names, or else pytorch_model.bin or the shards of
/// pytorch_model.bin.index.json. The files stay mapped until destruction; they must not be shortened
/// meanwhile. Movable; tensors stay where they are when it is moved. All const members may be called from any
/// thread.
///
/// Tensors are used where they lie in the mapped file. Only in .bin files may a tensor's elements lie in
/// another order (StoredTensor::copy is set): its `data` is a copy that find() and require() make, and
/// release() frees; such a tensor may not be released while another thread reads it.
class Checkpoint {
 public:
  struct Options {
    /// Whether .bin files may be opened (option.allow_pickle). They are read without running anything, but a
    /// directory that is not trusted may be held to safetensors.
    bool allow_pickle = true;
  };

  /// Opens and checks every file, reading the headers only. The first of model.safetensors, its index,
  /// pytorch_model.bin, its index that exists counts (as in transformers). A tensor that lies in a shard but
  /// not in the index is available too. Throws Error naming file and tensor: kNotFound (no directory, no
  /// weights, a shard that is not there), kUnsupported, kInvalidArgument or kDataLoss (see parse_safetensors
  /// and parse_torch_archive; a tensor that its shard lacks, or that two shards hold); kUnsupported also
  /// where the options do not allow what there is.
  static Checkpoint open(const std::filesystem::path& model_dir, const Options& options);
  static Checkpoint open(const std::filesystem::path& model_dir) { return open(model_dir, Options()); }

  const std::filesystem::path& directory() const { return directory_; }

  /// The tensor called `name`, or null. O(log n), besides making a copy where the tensor needs one.
  const StoredTensor* find(std::string_view name) const;

  /// As find(), but makes no copy: `data` may only be used where StoredTensor::copy is null.
  const StoredTensor* describe(std::string_view name) const;

  /// The tensor called `name`, which must have exactly this shape. Throws Error naming tensor, expected and
  /// found: kNotFound where it is missing, kInvalidArgument where its shape is another.
  const StoredTensor& require(std::string_view name, std::span<const std::int64_t> shape) const;

  /// As require(), but makes no copy (see describe()).
  const StoredTensor& check(std::string_view name, std::span<const std::int64_t> shape) const;

  /// All names, sorted; valid as long as the checkpoint.
  std::vector<std::string_view> names() const;

  /// Bytes of all tensors; one that shares its bytes with others counts as often.
  std::uint64_t total_bytes() const { return total_bytes_; }

  /// Asks the system to read a tensor's bytes ahead; returns at once.
  void will_need(const StoredTensor& tensor) const;

  /// Drops a tensor's pages from resident memory, once they have been packed, so that loading never holds two
  /// copies of a model. The bytes stay readable (they are read from disk again), except for a tensor that is
  /// a copy: it has to be asked for again.
  void release(const StoredTensor& tensor) const;

 private:
  Checkpoint() = default;

  void open_file(const std::filesystem::path& path);
  void open_shards(const std::filesystem::path& index, std::string_view extension);
  void collect_names();

  std::filesystem::path directory_;
  std::filesystem::path opened_;  ///< The single file or the index, for messages.
  std::vector<SafetensorsFile> safetensors_;
  std::vector<TorchFile> torch_files_;
  std::vector<const StoredTensor*> by_name_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace peregrine::weights
