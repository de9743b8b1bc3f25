// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace peregrine::weights {

/// One stored (uncompressed) entry of a zip archive that lies in memory: bytes [begin, end) of the file.
struct ZipEntry {
  std::string_view name;  ///< Bytes of the file.
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// Whether the bytes begin as a zip archive with at least one entry does.
bool looks_like_zip(std::span<const std::byte> file);

/// All entries of a zip or zip64 archive, sorted by name, from its central directory. Every extent has been
/// checked: entries lie inside the file, before the directory, and do not overlap; names are unique; each
/// entry's local header agrees with the directory about its name and that it is stored. Reads the directory
/// and the entries' headers only. Throws Error naming `where`: kDataLoss for an archive that is damaged or
/// truncated, kUnsupported for a compressed or encrypted entry and for an archive in several parts. Checksums
/// are not looked at: torch can be told to write none, and they would cost a pass over all the bytes.
///
/// Read by hand, although libarchive reads zip files: it hands out a stream and would copy every byte,
/// whereas tensors are used where they lie in the mapped file. (File format:
/// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7 to 4.3.16 and 4.5.3.)
std::vector<ZipEntry> read_zip_directory(std::span<const std::byte> file, std::string_view where);

/// The entry called `name` of a sorted list, or null.
const ZipEntry* find_zip_entry(std::span<const ZipEntry> entries, std::string_view name);

}  // namespace peregrine::weights
