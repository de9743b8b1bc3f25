// SPDX-License-Identifier: Apache-2.0
#include "weights/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "weights/git_lfs.h"
#include "weights/json_events.h"
#include "weights/tensor.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;

struct DTypeName {
  DType dtype;
  const char* name;
};

constexpr std::array kDTypeNames = {
    DTypeName{DType::kF64, "F64"},        DTypeName{DType::kF32, "F32"},
    DTypeName{DType::kF16, "F16"},        DTypeName{DType::kBF16, "BF16"},
    DTypeName{DType::kF8E4M3, "F8_E4M3"}, DTypeName{DType::kF8E5M2, "F8_E5M2"},
    DTypeName{DType::kI64, "I64"},        DTypeName{DType::kI32, "I32"},
    DTypeName{DType::kI16, "I16"},        DTypeName{DType::kI8, "I8"},
    DTypeName{DType::kU64, "U64"},        DTypeName{DType::kU32, "U32"},
    DTypeName{DType::kU16, "U16"},        DTypeName{DType::kU8, "U8"},
    DTypeName{DType::kBool, "BOOL"},
};

constexpr std::string_view kMetadataKey = "__metadata__";

/// Collects the entries of a header. Every piece that does not belong where it stands is refused at once.
class HeaderSink final : public JsonSink {
 public:
  HeaderSink(std::string_view where, SafetensorsHeader& header) : where_(where), header_(header) {}

  void begin_object() override {
    if (place_ == Place::kDocument) {
      place_ = Place::kNames;
    } else if (place_ == Place::kNames && key_ == kMetadataKey) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kNames) {
      place_ = Place::kEntry;
      seen_.fill(false);
      header_.entries.emplace_back().name = key_;
    } else {
      refuse("an object");
    }
  }

  void end_object() override {
    if (place_ == Place::kNames) {
      place_ = Place::kDocument;
      return;
    }
    if (place_ == Place::kEntry) {
      for (std::size_t i = 0; i < kFields.size(); ++i) {
        if (!seen_[i]) fail(ErrorKind::kInvalidArgument, "{}: '{}' is missing", entry_place(), kFields[i]);
      }
    }
    place_ = Place::kNames;
  }

  void begin_array() override {
    if (place_ == Place::kEntry && field_ == kShape) {
      place_ = Place::kShape;
    } else if (place_ == Place::kEntry && field_ == kOffsets) {
      place_ = Place::kOffsets;
      offsets_ = 0;
    } else {
      refuse("an array");
    }
  }

  void end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      fail(ErrorKind::kInvalidArgument, "{}: 'data_offsets' must hold two integers, begin and end; found {}",
           entry_place(), offsets_);
    }
    place_ = Place::kEntry;
  }

  void key(std::string_view name) override {
    if (place_ == Place::kEntry) {
      const auto field = std::find(kFields.begin(), kFields.end(), name);
      if (field == kFields.end()) {
        fail(ErrorKind::kInvalidArgument, "{}: unknown key {}; known are dtype, shape, data_offsets",
             entry_place(), core::quoted(name));
      }
      field_ = static_cast<std::size_t>(field - kFields.begin());
      if (std::exchange(seen_[field_], true)) {
        fail(ErrorKind::kInvalidArgument, "{}: '{}' is given twice", entry_place(), name);
      }
      return;
    }
    if (place_ == Place::kNames && name == kMetadataKey && std::exchange(metadata_seen_, true)) {
      fail(ErrorKind::kInvalidArgument, "{}: '{}' is given twice", where_, kMetadataKey);
    }
    (place_ == Place::kMetadata ? metadata_key_ : key_) = name;
  }

  void string(std::string_view text) override {
    if (place_ == Place::kMetadata) {
      if (!header_.metadata.emplace(metadata_key_, text).second) {
        fail(ErrorKind::kInvalidArgument, "{}: '{}': {} is given twice", where_, kMetadataKey,
             core::quoted(metadata_key_));
      }
    } else if (place_ == Place::kEntry && field_ == kDType) {
      const auto dtype = parse_safetensors_dtype(text);
      if (!dtype) {
        fail(ErrorKind::kUnsupported, "{}: data type {} is not known; known are {}", entry_place(),
             core::quoted(text), known_dtypes());
      }
      header_.entries.back().dtype = *dtype;
    } else {
      refuse("the string " + core::quoted(text));
    }
  }

  void integer(std::uint64_t number) override {
    if (place_ == Place::kShape) {
      auto& shape = header_.entries.back().shape;
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        refuse(fmt::format("the number {}", number));
      }
      if (shape.size() == kMaxTensorRank) {
        fail(ErrorKind::kInvalidArgument, "{}: 'shape' has more than {} dimensions", entry_place(),
             kMaxTensorRank);
      }
      shape.push_back(static_cast<std::int64_t>(number));
    } else if (place_ == Place::kOffsets) {
      if (offsets_ == 0) header_.entries.back().begin = number;
      if (offsets_ == 1) header_.entries.back().end = number;
      ++offsets_;
    } else {
      refuse(fmt::format("the number {}", number));
    }
  }

  void other(std::string_view description) override { refuse(description); }

 private:
  enum class Place { kDocument, kNames, kMetadata, kEntry, kShape, kOffsets };
  static constexpr std::array<std::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
  static constexpr std::size_t kDType = 0, kShape = 1, kOffsets = 2;

  std::string entry_place() const { return fmt::format("{}: tensor {}", where_, core::quoted(key_)); }

  static std::string known_dtypes() {
    std::string out;
    for (const auto& entry : kDTypeNames) out += (out.empty() ? "" : ", ") + std::string(entry.name);
    return out;
  }

  [[noreturn]] void refuse(std::string_view found) const {
    constexpr std::array<std::string_view, 3> kExpected = {"a string", "an array of integers",
                                                           "an array of two integers"};
    constexpr auto kind = ErrorKind::kInvalidArgument;
    switch (place_) {
      case Place::kDocument:
        fail(kind, "{}: the header must be an object, found {}", where_, found);
      case Place::kNames:
        fail(kind, "{} must be an object, found {}", entry_place(), found);
      case Place::kMetadata:
        fail(kind, "{}: '{}': {} must be a string, found {}", where_, kMetadataKey,
             core::quoted(metadata_key_), found);
      case Place::kEntry:
        fail(kind, "{}: '{}' must be {}, found {}", entry_place(), kFields[field_], kExpected[field_], found);
      case Place::kShape:
        fail(kind, "{}: 'shape' must hold integers from 0 to 2^63 - 1, found {}", entry_place(), found);
      case Place::kOffsets:
        fail(kind, "{}: 'data_offsets' must hold integers from 0 to 2^64 - 1, found {}", entry_place(),
             found);
    }
    fail(ErrorKind::kInternal, "{}: unknown place in a header", where_);
  }

  std::string_view where_;
  SafetensorsHeader& header_;
  Place place_ = Place::kDocument;
  std::string key_;
  std::string metadata_key_;
  bool metadata_seen_ = false;
  std::size_t field_ = 0;
  std::array<bool, 3> seen_{};
  std::uint64_t offsets_ = 0;
};

void check_names(const SafetensorsHeader& header, std::string_view where) {
  std::vector<std::string_view> names;
  names.reserve(header.entries.size());
  for (const auto& entry : header.entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    fail(ErrorKind::kInvalidArgument, "{}: tensor {} is given twice", where, core::quoted(*twice));
  }
}

/// Each extent has the size that data type and shape need.
void check_sizes(const SafetensorsHeader& header, std::string_view where) {
  for (const auto& entry : header.entries) {
    if (entry.begin > entry.end) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: data_offsets [{}, {}] end before they begin", where,
           core::quoted(entry.name), entry.begin, entry.end);
    }
    const auto bytes = byte_size(entry.shape, entry.dtype);
    if (!bytes) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: shape {} of {} is more than 2^63 - 1 bytes", where,
           core::quoted(entry.name), shape_text(entry.shape), safetensors_dtype_name(entry.dtype));
    }
    if (*bytes != entry.end - entry.begin) {
      fail(ErrorKind::kDataLoss,
           "{}: tensor {}: shape {} of {} needs {} bytes, data_offsets [{}, {}] give {}", where,
           core::quoted(entry.name), shape_text(entry.shape), safetensors_dtype_name(entry.dtype), *bytes,
           entry.begin, entry.end, entry.end - entry.begin);
    }
  }
}

/// The entries, sorted by their data, cover [0, data_size) exactly once.
void check_cover(const SafetensorsHeader& header, std::uint64_t data_size, std::string_view where) {
  std::uint64_t covered = 0;
  std::string_view previous;
  for (const auto& entry : header.entries) {
    if (entry.begin < covered) {
      fail(ErrorKind::kDataLoss, "{}: tensor {} begins at data byte {}, inside tensor {}, which ends at {}",
           where, core::quoted(entry.name), entry.begin, core::quoted(previous), covered);
    }
    if (entry.begin > covered) {
      fail(ErrorKind::kDataLoss,
           "{}: tensor {} begins at data byte {}, but the data before it ends at {}: a gap", where,
           core::quoted(entry.name), entry.begin, covered);
    }
    if (entry.end > data_size) {
      fail(ErrorKind::kDataLoss,
           "{}: tensor {} needs data bytes {} to {}, but the file has {} bytes of data: truncated", where,
           core::quoted(entry.name), entry.begin, entry.end, data_size);
    }
    covered = entry.end;
    previous = entry.name;
  }
  if (covered != data_size) {
    fail(ErrorKind::kDataLoss, "{}: its tensors cover {} bytes of data, but the file has {}", where, covered,
         data_size);
  }
}

}  // namespace

const char* safetensors_dtype_name(DType dtype) {
  for (const auto& entry : kDTypeNames) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "?";
}

std::optional<DType> parse_safetensors_dtype(std::string_view name) {
  for (const auto& entry : kDTypeNames) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_size,
                                           std::string_view where) {
  // The format wants '{' first: padding goes to the end, so that a header of spaces is no header.
  if (json.empty() || json.front() != '{') {
    fail(ErrorKind::kInvalidArgument, "{}: the header must begin with '{{', found {}", where,
         core::quoted(json, 16));
  }
  SafetensorsHeader header;
  HeaderSink sink(where, header);
  read_json(json, fmt::format("{}: header", where), sink);
  check_names(header, where);
  check_sizes(header, where);
  // Empty tensors sort before the tensor that begins where they lie.
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_cover(header, data_size, where);
  return header;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view where) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  refuse_lfs_pointer(file, where);
  if (file.size() < kSafetensorsPrefix) {
    fail(ErrorKind::kDataLoss,
         "{}: has {} bytes; a safetensors file begins with 8 bytes that hold its header's length", where,
         file.size());
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kSafetensorsPrefix; ++i) {
    length |= static_cast<std::uint64_t>(std::to_integer<std::uint8_t>(file[i])) << (8 * i);
  }
  if (length > kMaxSafetensorsHeader) {
    fail(ErrorKind::kInvalidArgument, "{}: claims a header of {} bytes; at most {} are allowed", where,
         length, kMaxSafetensorsHeader);
  }
  const std::uint64_t rest = file.size() - kSafetensorsPrefix;
  if (length > rest) {
    fail(ErrorKind::kDataLoss, "{}: claims a header of {} bytes, but only {} follow: truncated", where,
         length, rest);
  }
  SafetensorsHeader header =
      parse_safetensors_header(text.substr(kSafetensorsPrefix, length), rest - length, where);
  header.data_start = kSafetensorsPrefix + length;
  return header;
}

}  // namespace peregrine::weights
