// SPDX-License-Identifier: Apache-2.0
#include "weights/torch_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/checked.h"
#include "core/error.h"
#include "weights/git_lfs.h"
#include "weights/tensor.h"
#include "weights/tensor_pickle.h"
#include "weights/zip_directory.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::string_view kPickleName = "/data.pkl";
constexpr std::size_t kMaxListed = 5;

std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Says what a file is that is no zip archive.
[[noreturn]] void refuse_other_format(std::span<const std::byte> file, std::string_view where) {
  if (file.empty()) fail(ErrorKind::kDataLoss, "{}: is empty", where);
  // A pickle of protocol 2 or later, which torch.save wrote bare.
  const std::string_view start = text(file.first(std::min<std::size_t>(file.size(), 2)));
  if (start.size() == 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5) {
    fail(ErrorKind::kUnsupported,
         "{}: is in the old format of torch.save (before 1.6); load it with torch and save it again with 1.6 "
         "or "
         "later, or as safetensors",
         where);
  }
  fail(ErrorKind::kInvalidArgument,
       "{}: is not a file of torch.save: it begins with {}, not as a zip archive", where,
       core::quoted(text(file).substr(0, 8)));
}

/// The name of the archive's folder: that of the one entry <folder>/data.pkl.
std::string find_folder(std::span<const ZipEntry> entries, std::string_view where) {
  std::optional<std::string_view> folder;
  for (const ZipEntry& entry : entries) {
    if (!entry.name.ends_with(kPickleName)) continue;
    const std::string_view name = entry.name.substr(0, entry.name.size() - kPickleName.size());
    if (name.find('/') != std::string_view::npos) continue;
    if (folder) {
      fail(ErrorKind::kInvalidArgument, "{}: has two pickles, {}{} and {}", where, core::quoted(*folder),
           kPickleName, core::quoted(entry.name));
    }
    folder = name;
  }
  if (!folder) {
    fail(ErrorKind::kInvalidArgument, "{}: is a zip archive, but not of torch.save: it has no data.pkl",
         where);
  }
  // It is part of each storage's name, and compared as often.
  if (folder->size() > kMaxPickledName) {
    fail(ErrorKind::kInvalidArgument, "{}: its folder {} has a name of {} bytes; at most {} are allowed",
         where, core::quoted(*folder), folder->size(), kMaxPickledName);
  }
  return std::string(*folder);
}

void refuse_torchscript(std::span<const ZipEntry> entries, const std::string& folder,
                        std::string_view where) {
  const std::string code = folder + "/code/";
  const bool script = find_zip_entry(entries, folder + "/constants.pkl") != nullptr ||
                      std::any_of(entries.begin(), entries.end(),
                                  [&](const ZipEntry& entry) { return entry.name.starts_with(code); });
  if (script) {
    fail(ErrorKind::kUnsupported,
         "{}: is a TorchScript archive (a program, of torch.jit.save); save the model's state_dict with "
         "torch.save, or as safetensors",
         where);
  }
}

/// Finds tensors in the storages of a file.
class Resolver {
 public:
  Resolver(std::span<const std::byte> file, std::string_view where)
      : file_(file), where_(where), entries_(read_zip_directory(file, where)) {
    folder_ = find_folder(entries_, where);
    refuse_torchscript(entries_, folder_, where);
    storage_types_.resize(entries_.size());
  }

  TorchArchive resolve() {
    check_byte_order();
    const ZipEntry& pickle = *find_zip_entry(entries_, folder_ + std::string(kPickleName));
    PickledTensors pickled = read_tensor_pickle(bytes_of(pickle), fmt::format("{}: data.pkl", where_));
    TorchArchive out;
    out.entries.reserve(pickled.tensors.size());
    for (PickledTensor& tensor : pickled.tensors) out.entries.push_back(resolve(tensor));
    out.passed_over_count = pickled.passed_over.size();
    for (const auto name :
         std::span(pickled.passed_over).first(std::min(out.passed_over_count, kMaxListed))) {
      out.passed_over.push_back(core::quoted(name));
    }
    return out;
  }

 private:
  std::string_view bytes_of(const ZipEntry& entry) const {
    return text(file_.subspan(entry.begin, entry.end - entry.begin));
  }

  void check_byte_order() const {
    const ZipEntry* entry = find_zip_entry(entries_, folder_ + "/byteorder");
    if (entry != nullptr && bytes_of(*entry) != "little") {
      fail(ErrorKind::kUnsupported, "{}: its byteorder is {}; only little-endian files are read", where_,
           core::quoted(bytes_of(*entry)));
    }
  }

  TorchEntry resolve(PickledTensor& tensor) {
    const ZipEntry& storage = find_storage(tensor);
    const std::uint64_t element = core::size_of(tensor.dtype);
    const auto bytes = byte_size(tensor.shape, tensor.dtype);
    if (!bytes) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: shape {} of {} is more than 2^63 - 1 bytes", where_,
           core::quoted(tensor.name), shape_text(tensor.shape), core::to_string(tensor.dtype));
    }
    const std::uint64_t available = (storage.end - storage.begin) / element;
    const auto count = *bytes == 0 ? tensor.offset : end_of(tensor);
    if (!count || *count > available) {
      fail(ErrorKind::kDataLoss,
           "{}: tensor {} of shape {}, strides {} and offset {} leaves its storage {} of {} elements", where_,
           core::quoted(tensor.name), shape_text(tensor.shape), shape_text(tensor.strides), tensor.offset,
           core::quoted(tensor.storage), available);
    }
    TorchEntry out;
    out.name = tensor.name;
    out.dtype = tensor.dtype;
    out.begin = storage.begin + tensor.offset * element;
    out.end = storage.begin + *count * element;
    if (*bytes != 0 && !is_dense(tensor)) {
      if (*bytes / element > available) {
        fail(ErrorKind::kUnsupported,
             "{}: tensor {} of shape {} and strides {} repeats the {} elements of its storage; save it with "
             "contiguous()",
             where_, core::quoted(tensor.name), shape_text(tensor.shape), shape_text(tensor.strides),
             available);
      }
      out.strides = std::move(tensor.strides);
    }
    out.shape = std::move(tensor.shape);
    return out;
  }

  const ZipEntry& find_storage(const PickledTensor& tensor) {
    const ZipEntry* storage =
        tensor.storage.size() > kMaxPickledName
            ? nullptr
            : find_zip_entry(entries_, fmt::format("{}/data/{}", folder_, tensor.storage));
    if (storage == nullptr) {
      fail(ErrorKind::kDataLoss, "{}: tensor {} is in storage {}, which the file lacks", where_,
           core::quoted(tensor.name), core::quoted(tensor.storage));
    }
    const auto bytes = core::checked_mul(tensor.storage_count, core::size_of(tensor.storage_dtype));
    if (!bytes || *bytes != storage->end - storage->begin) {
      fail(ErrorKind::kDataLoss, "{}: tensor {}: storage {} should hold {} elements of {}, but has {} bytes",
           where_, core::quoted(tensor.name), core::quoted(tensor.storage), tensor.storage_count,
           core::to_string(tensor.storage_dtype), storage->end - storage->begin);
    }
    // torch would give all its tensors the type that it meets first.
    auto& type = storage_types_[static_cast<std::size_t>(storage - entries_.data())];
    if (type.value_or(tensor.storage_dtype) != tensor.storage_dtype) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: storage {} holds {}, but {} for another tensor",
           where_, core::quoted(tensor.name), core::quoted(tensor.storage),
           core::to_string(tensor.storage_dtype), core::to_string(*type));
    }
    type = tensor.storage_dtype;
    return *storage;
  }

  /// Elements of the storage up to and with the tensor's last; nothing where that is beyond 64 bits. No size
  /// is 0.
  static std::optional<std::uint64_t> end_of(const PickledTensor& tensor) {
    std::optional<std::uint64_t> last = tensor.offset;
    for (std::size_t d = 0; d < tensor.shape.size() && last; ++d) {
      const auto way = core::checked_mul(static_cast<std::uint64_t>(tensor.shape[d] - 1),
                                         static_cast<std::uint64_t>(tensor.strides[d]));
      last = way ? core::checked_add(*last, *way) : std::nullopt;
    }
    return last ? core::checked_add(*last, 1) : std::nullopt;
  }

  /// Row-major without gaps. The stride of a dimension of size 1 is never used, and may be anything.
  static bool is_dense(const PickledTensor& tensor) {
    std::int64_t expected = 1;  // cannot overflow: byte_size() has multiplied the same numbers
    for (std::size_t d = tensor.shape.size(); d-- > 0;) {
      if (tensor.shape[d] != 1 && tensor.strides[d] != expected) return false;
      expected *= tensor.shape[d];
    }
    return true;
  }

  std::span<const std::byte> file_;
  std::string_view where_;
  std::vector<ZipEntry> entries_;
  std::string folder_;
  std::vector<std::optional<core::DType>> storage_types_;  ///< By entry.
};

}  // namespace

TorchArchive parse_torch_archive(std::span<const std::byte> file, std::string_view where) {
  refuse_lfs_pointer(file, where);
  if (!looks_like_zip(file)) refuse_other_format(file, where);
  return Resolver(file, where).resolve();
}

}  // namespace peregrine::weights
