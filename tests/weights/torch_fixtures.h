// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::weights {

/// The bytes of a little-endian number.
template <typename Integer>
std::string little(Integer number) {
  std::string out(sizeof number, '\0');
  std::memcpy(out.data(), &number, sizeof number);
  return out;
}

// Pieces of pickles of protocol 2, as torch.save writes them.
namespace pickle {

inline std::string text(std::string_view value) {
  return "X" + little(static_cast<std::uint32_t>(value.size())) + std::string(value);
}

inline std::string integer(std::int64_t value) {
  if (value == static_cast<std::int32_t>(value)) return "J" + little(static_cast<std::int32_t>(value));
  return "\x8a\x08" + little(value);
}

inline std::string tuple(const std::vector<std::string>& parts) {
  std::string out = "(";
  for (const auto& part : parts) out += part;
  return out + "t";
}

inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> parts;
  for (const auto value : values) parts.push_back(integer(value));
  return tuple(parts);
}

inline std::string name(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

inline std::string storage(const std::string& type, const std::string& key, std::int64_t count) {
  return tuple({text("storage"), name("torch", type), text(key), text("cpu"), integer(count)}) + "Q";
}

inline std::string ordered_dict() { return name("collections", "OrderedDict") + ")R"; }

inline std::string tensor(const std::string& storage, std::int64_t offset,
                          const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  return name("torch._utils", "_rebuild_tensor_v2") +
         tuple({storage, integer(offset), integers(shape), integers(strides), "\x89", ordered_dict()}) + "R";
}

/// A vector of `count` elements that fills storage `key`.
inline std::string vector(const std::string& type, const std::string& key, std::int64_t count) {
  return tensor(storage(type, key, count), 0, {count}, {1});
}

struct Item {
  std::string key, value;
};

/// A whole pickle: a dict.
inline std::string dict(const std::vector<Item>& items) {
  std::string out = "\x80\x02}(";
  for (const auto& item : items) out += text(item.key) + item.value;
  return out + "u.";
}

}  // namespace pickle

/// One entry of a zip archive.
struct ZipPart {
  std::string name, data;
  std::uint16_t flags = 0x808;  ///< As torch writes them: a data descriptor, names in UTF-8.
  std::uint16_t method = 0;
};

struct ZipStyle {
  bool end64 = true;      ///< A zip64 end record, as torch always writes.
  bool fields64 = false;  ///< Sizes and offsets in zip64 fields.
  std::string comment = {};
};

/// A zip archive of these parts, each behind a local header with some padding, as torch aligns its storages.
inline std::string zip_of(const std::vector<ZipPart>& parts, const ZipStyle& style = {}) {
  const auto u16 = [](std::uint64_t value) { return little(static_cast<std::uint16_t>(value)); };
  const auto u32 = [](std::uint64_t value) { return little(static_cast<std::uint32_t>(value)); };
  std::string out, directory;
  for (const auto& part : parts) {
    const std::uint64_t offset = out.size();
    const std::string padding = "FB" + u16(3) + "ZZZ";
    out += "PK\3\4" + u16(0) + u16(part.flags) + u16(part.method) + std::string(16, '\0') +
           u16(part.name.size()) + u16(padding.size()) + part.name + padding + part.data;
    out += "PK\7\b" + std::string(12, '\0');
    std::string extra;
    if (style.fields64)
      extra = u16(1) + u16(24) + little(std::uint64_t{part.data.size()}) +
              little(std::uint64_t{part.data.size()}) + little(offset);
    const auto in64 = [&](std::uint64_t value) { return u32(style.fields64 ? 0xffffffff : value); };
    directory += "PK\1\2" + u16(0) + u16(0) + u16(part.flags) + u16(part.method) + std::string(8, '\0') +
                 in64(part.data.size()) + in64(part.data.size()) + u16(part.name.size()) + u16(extra.size()) +
                 u16(0) + u16(0) + u16(0) + u32(0) + in64(offset) + part.name + extra;
  }
  const std::uint64_t start = out.size();
  out += directory;
  const std::uint64_t count = parts.size(), end64 = out.size();
  if (style.end64) {
    out += "PK\6\6" + little(std::uint64_t{44}) + u16(0) + u16(45) + u32(0) + u32(0) + little(count) +
           little(count) + little(std::uint64_t{directory.size()}) + little(start);
    out += "PK\6\7" + u32(0) + little(end64) + u32(1);
  }
  out += "PK\5\6" + u16(0) + u16(0) + u16(count) + u16(count) + u32(directory.size()) +
         u32(style.fields64 ? 0xffffffff : start) + u16(style.comment.size()) + style.comment;
  return out;
}

/// A file of torch.save: this pickle, and storages "0", "1", ...
inline std::vector<ZipPart> torch_parts(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipPart> parts = {{"archive/data.pkl", pickle}, {"archive/byteorder", "little"}};
  for (std::size_t i = 0; i < storages.size(); ++i) {
    parts.push_back({"archive/data/" + std::to_string(i), storages[i]});
  }
  parts.push_back({"archive/version", "3\n"});
  return parts;
}

inline std::string torch_bytes(const std::string& pickle, const std::vector<std::string>& storages) {
  return zip_of(torch_parts(pickle, storages));
}

}  // namespace peregrine::weights
