// SPDX-License-Identifier: Apache-2.0
#include "weights/zip_directory.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kCentralSignature = 0x02014b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::uint32_t kLocator64Signature = 0x07064b50;

constexpr std::uint64_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56,
                        kLocator64Size = 20;
constexpr std::uint64_t kMaxComment = 0xffff;
constexpr std::uint16_t kZip64Field = 1;
constexpr std::uint16_t kEncrypted = 1 << 0, kStronglyEncrypted = 1 << 6, kMaskedHeaders = 1 << 13;

// A field of 16 or 32 bits that holds this has its value in the zip64 record.
constexpr std::uint64_t kIn64Of16 = 0xffff, kIn64Of32 = 0xffffffff;

/// A little-endian field; the caller has checked that it lies in the file.
template <typename Integer>
Integer load(std::span<const std::byte> file, std::uint64_t at) {
  Integer value = 0;
  std::memcpy(&value, file.subspan(at, sizeof value).data(), sizeof value);
  return value;
}

std::string_view text(std::span<const std::byte> file, std::uint64_t at, std::uint64_t size) {
  const auto bytes = file.subspan(at, size);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Where the central directory lies, and how many entries it should have.
struct Directory {
  std::uint64_t offset = 0, size = 0, count = 0;
};

/// A central directory entry as it stands there.
struct Central {
  std::string_view name;
  std::uint64_t offset = 0, size = 0;
};

class Reader {
 public:
  Reader(std::span<const std::byte> file, std::string_view where) : file_(file), where_(where) {}

  std::vector<ZipEntry> read() {
    const Directory directory = find_directory();
    const std::uint64_t end = directory.offset + directory.size;
    std::vector<Central> found;
    found.reserve(directory.count);
    std::uint64_t at = directory.offset;
    for (std::uint64_t i = 0; i < directory.count; ++i) found.push_back(read_central(at, end));
    if (at != end) {
      fail(ErrorKind::kDataLoss, "{}: its zip directory has {} bytes, but its {} entries take {}", where_,
           directory.size, directory.count, at - directory.offset);
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
    return locate(found, directory.offset);
  }

 private:
  Directory find_directory() const {
    const std::uint64_t end = find_end();
    if (load<std::uint16_t>(file_, end + 4) != 0 || load<std::uint16_t>(file_, end + 6) != 0) {
      // 0xffff: the disk numbers are in the zip64 record.
      if (load<std::uint16_t>(file_, end + 4) != kIn64Of16) fail_parts();
    }
    const std::uint64_t count = load<std::uint16_t>(file_, end + 10);
    const std::uint64_t size = load<std::uint32_t>(file_, end + 12);
    const std::uint64_t offset = load<std::uint32_t>(file_, end + 16);
    Directory out{offset, size, count};
    std::uint64_t limit = end;
    if (end >= kLocator64Size && load<std::uint32_t>(file_, end - kLocator64Size) == kLocator64Signature) {
      limit = end64(end - kLocator64Size);
      out = {load<std::uint64_t>(file_, limit + 48), load<std::uint64_t>(file_, limit + 40),
             load<std::uint64_t>(file_, limit + 32)};
      const bool agree = (count == kIn64Of16 || count == out.count) &&
                         (size == kIn64Of32 || size == out.size) &&
                         (offset == kIn64Of32 || offset == out.offset);
      if (!agree) fail(ErrorKind::kDataLoss, "{}: its zip and zip64 end records disagree", where_);
    }
    if (out.offset > limit || out.size > limit - out.offset) {
      fail(ErrorKind::kDataLoss,
           "{}: its zip directory should be {} bytes at {}, but must end before {}: damaged or truncated",
           where_, out.size, out.offset, limit);
    }
    if (out.count > out.size / kCentralSize) {
      fail(ErrorKind::kDataLoss, "{}: its zip directory claims {} entries in {} bytes", where_, out.count,
           out.size);
    }
    return out;
  }

  /// The end record: the last thing in the file but for a comment, whose length it holds.
  std::uint64_t find_end() const {
    if (file_.size() >= kEndSize) {
      const std::uint64_t last = file_.size() - kEndSize;
      const std::uint64_t first = last - std::min(last, kMaxComment);
      for (std::uint64_t at = last + 1; at-- > first;) {
        if (load<std::uint32_t>(file_, at) == kEndSignature &&
            load<std::uint16_t>(file_, at + 20) == file_.size() - at - kEndSize) {
          return at;
        }
      }
    }
    fail(ErrorKind::kDataLoss,
         "{}: has {} bytes and no zip directory at its end: truncated, or not wholly downloaded", where_,
         file_.size());
  }

  std::uint64_t end64(std::uint64_t locator) const {
    const auto at = load<std::uint64_t>(file_, locator + 8);
    if (locator < kEnd64Size || at > locator - kEnd64Size ||
        load<std::uint32_t>(file_, at) != kEnd64Signature) {
      fail(ErrorKind::kDataLoss, "{}: has no zip64 end record at {}, where its locator says: damaged", where_,
           at);
    }
    if (load<std::uint32_t>(file_, at + 16) != 0 || load<std::uint32_t>(file_, at + 20) != 0) fail_parts();
    return at;
  }

  Central read_central(std::uint64_t& at, std::uint64_t end) const {
    if (end - at < kCentralSize || load<std::uint32_t>(file_, at) != kCentralSignature) {
      fail(ErrorKind::kDataLoss, "{}: has no zip directory entry at {}: damaged", where_, at);
    }
    const std::uint64_t name = load<std::uint16_t>(file_, at + 28);
    const std::uint64_t extra = load<std::uint16_t>(file_, at + 30);
    const std::uint64_t comment = load<std::uint16_t>(file_, at + 32);
    if (end - at - kCentralSize < name + extra + comment) {
      fail(ErrorKind::kDataLoss, "{}: the zip directory entry at {} leaves the directory: damaged", where_,
           at);
    }
    Central out;
    out.name = text(file_, at + kCentralSize, name);
    check_stored(out.name, load<std::uint16_t>(file_, at + 8), load<std::uint16_t>(file_, at + 10));
    std::uint64_t stored = load<std::uint32_t>(file_, at + 20);
    out.size = load<std::uint32_t>(file_, at + 24);
    out.offset = load<std::uint32_t>(file_, at + 42);
    read_zip64(file_.subspan(at + kCentralSize + name, extra), out, stored);
    if (stored != out.size) {
      fail(ErrorKind::kDataLoss, "{}: entry {} is stored in {} bytes, but has {}", where_,
           core::quoted(out.name), stored, out.size);
    }
    at += kCentralSize + name + extra + comment;
    return out;
  }

  void check_stored(std::string_view name, std::uint16_t flags, std::uint16_t method) const {
    if ((flags & (kEncrypted | kStronglyEncrypted | kMaskedHeaders)) != 0) {
      fail(ErrorKind::kUnsupported, "{}: entry {} is encrypted; torch.save writes no such files", where_,
           core::quoted(name));
    }
    if (method != 0) {
      fail(ErrorKind::kUnsupported,
           "{}: entry {} is compressed (method {}); torch.save stores entries as they are: do not pack its "
           "files again",
           where_, core::quoted(name), method);
    }
  }

  /// Sizes and offset that do not fit 32 bits, in this order, as far as they are needed.
  void read_zip64(std::span<const std::byte> extra, Central& entry, std::uint64_t& stored) const {
    while (extra.size() >= 4) {
      const auto id = load<std::uint16_t>(extra, 0);
      const std::uint64_t size = load<std::uint16_t>(extra, 2);
      if (size > extra.size() - 4) break;
      std::span<const std::byte> field = extra.subspan(4, size);
      extra = extra.subspan(4 + size);
      if (id != kZip64Field) continue;
      for (std::uint64_t* value : {&entry.size, &stored, &entry.offset}) {
        if (*value != kIn64Of32) continue;
        if (field.size() < 8) {
          fail(ErrorKind::kDataLoss, "{}: entry {}: its zip64 field is too short: damaged", where_,
               core::quoted(entry.name));
        }
        *value = load<std::uint64_t>(field, 0);
        field = field.subspan(8);
      }
      return;
    }
  }

  /// From the entries in the order of their offsets to those sorted by name; `limit` is where the directory
  /// begins.
  std::vector<ZipEntry> locate(const std::vector<Central>& found, std::uint64_t limit) const {
    std::vector<ZipEntry> out;
    out.reserve(found.size());
    std::uint64_t covered = 0;
    for (const Central& entry : found) {
      if (entry.offset < covered) {
        fail(ErrorKind::kDataLoss, "{}: entry {} begins at {}, inside entry {}, which ends at {}", where_,
             core::quoted(entry.name), entry.offset, core::quoted(out.back().name), covered);
      }
      out.push_back(locate(entry, limit));
      covered = out.back().end;
    }
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(out.begin(), out.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice != out.end()) {
      fail(ErrorKind::kDataLoss, "{}: entry {} is there twice", where_, core::quoted(twice->name));
    }
    return out;
  }

  ZipEntry locate(const Central& entry, std::uint64_t limit) const {
    if (entry.offset > limit || limit - entry.offset < kLocalSize ||
        load<std::uint32_t>(file_, entry.offset) != kLocalSignature) {
      fail(ErrorKind::kDataLoss, "{}: entry {} has no header at {}: damaged", where_,
           core::quoted(entry.name), entry.offset);
    }
    const std::uint64_t name = load<std::uint16_t>(file_, entry.offset + 26);
    const std::uint64_t begin =
        entry.offset + kLocalSize + name + load<std::uint16_t>(file_, entry.offset + 28);
    if (begin > limit || entry.size > limit - begin) {
      fail(ErrorKind::kDataLoss, "{}: entry {} should have {} bytes at {}, but must end before {}: damaged",
           where_, core::quoted(entry.name), entry.size, begin, limit);
    }
    if (text(file_, entry.offset + kLocalSize, name) != entry.name) {
      fail(ErrorKind::kDataLoss, "{}: entry {} has another name in its own header: damaged", where_,
           core::quoted(entry.name));
    }
    check_stored(entry.name, load<std::uint16_t>(file_, entry.offset + 6),
                 load<std::uint16_t>(file_, entry.offset + 8));
    return {entry.name, begin, begin + entry.size};
  }

  [[noreturn]] void fail_parts() const {
    fail(ErrorKind::kUnsupported, "{}: is one part of a zip archive in several parts", where_);
  }

  std::span<const std::byte> file_;
  std::string_view where_;
};

}  // namespace

bool looks_like_zip(std::span<const std::byte> file) {
  return file.size() >= sizeof kLocalSignature && load<std::uint32_t>(file, 0) == kLocalSignature;
}

std::vector<ZipEntry> read_zip_directory(std::span<const std::byte> file, std::string_view where) {
  return Reader(file, where).read();
}

const ZipEntry* find_zip_entry(std::span<const ZipEntry> entries, std::string_view name) {
  const auto found =
      std::lower_bound(entries.begin(), entries.end(), name,
                       [](const ZipEntry& entry, std::string_view key) { return entry.name < key; });
  return found != entries.end() && found->name == name ? &*found : nullptr;
}

}  // namespace peregrine::weights
