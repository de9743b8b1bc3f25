// SPDX-License-Identifier: Apache-2.0
#include "core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace peregrine::core {
namespace {

/// An open read-only descriptor of a regular file, and its size.
struct OpenFile {
  int fd = -1;
  std::uint64_t size = 0;

  explicit OpenFile(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a FIFO that nobody writes to must fail below, not wait for ever.
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
      const int error = errno;
      fail(error == ENOENT || error == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kInvalidArgument,
           "cannot open {}: {}", path.string(), std::strerror(error));
    }
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(fd);
      fail(ErrorKind::kInvalidArgument, "{} is not a regular file", path.string());
    }
    size = static_cast<std::uint64_t>(status.st_size);
  }
  ~OpenFile() { ::close(fd); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const OpenFile file(path);
  size_ = file.size;
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (address == MAP_FAILED) {
    fail(ErrorKind::kInternal, "cannot map {} ({} bytes): {}", path.string(), size_, std::strerror(errno));
  }
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::string read_file(const std::filesystem::path& path, std::uint64_t limit) {
  const OpenFile file(path);
  if (file.size > limit) {
    fail(ErrorKind::kInvalidArgument, "{} has {} bytes; at most {} are read", path.string(), file.size,
         limit);
  }
  std::string text(file.size, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::read(file.fd, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(ErrorKind::kInternal, "cannot read {}: {}", path.string(), std::strerror(errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  text.resize(done);
  return text;
}

}  // namespace peregrine::core
