// SPDX-License-Identifier: Apache-2.0
#include "channel/link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <span>
#include <utility>

#include "channel/event_loop_impl.h"
#include "channel/frame.h"
#include "core/error.h"

namespace peregrine::channel {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;

constexpr std::size_t kReadBytes = 64u << 10;
/// A queue that one large message has grown beyond this is given back after it.
constexpr std::size_t kKeptCapacity = 1u << 20;

/// Closes a descriptor that nobody has taken over.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  void release() { fd_ = -1; }

 private:
  int fd_;
};

/// The socket's family (Unix, TCP), which Asio wants to know; AF_UNSPEC where it is no socket.
int family_of(int fd) {
  int family = AF_UNSPEC;
  socklen_t size = sizeof(family);
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0) return AF_UNSPEC;
  return family;
}

}  // namespace

/// Kept alive by the operations under way, so that a Link may go at any time; without a handler it is closed.
struct Link::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& context, Handler& to) : socket(context), handler(&to) {}

  void open(Descriptor& fd) {
    error_code error;
    socket.assign(asio::generic::stream_protocol(family_of(fd.get()), 0), fd.get(), error);
    if (!error) {
      fd.release();
      read();
      return;
    }
    // Not from within the constructor: the owner does not have its Link yet.
    asio::post(socket.get_executor(), [self = shared_from_this(), error] {
      self->end("the channel cannot be used: " + error.message());
    });
  }

  void close() {
    handler = nullptr;
    error_code ignored;
    socket.close(ignored);
    std::string().swap(queued);  // `writing` stays as long as a write under way may look at it.
  }

  /// Closes and tells the handler, which may destroy the Link.
  void end(const std::string& reason) {
    Handler* told = handler;
    if (told == nullptr) return;
    close();
    told->on_closed(reason);
  }

  void read() {
    socket.async_read_some(asio::buffer(chunk),
                           [self = shared_from_this()](const error_code& error, std::size_t count) {
                             self->on_read(error, count);
                           });
  }

  void on_read(const error_code& error, std::size_t count) {
    if (handler == nullptr) return;
    if (error == asio::error::eof) {
      end(write_error.empty() ? "the host closed its end" : write_error);
      return;
    }
    if (error) {
      end("reading failed: " + error.message());
      return;
    }
    try {
      reader.push(std::span(chunk).first(count));
      for (wire::FromHost message; reader.next(message); message.Clear()) {
        handler->on_message(std::move(message));
        if (handler == nullptr) return;
      }
    } catch (const core::Error& bad) {
      end(bad.what());
      return;
    }
    read();
  }

  void send(const wire::ToHost& message) {
    if (handler == nullptr || !write_error.empty()) return;
    append_frame(message, queued);
    if (is_writing) return;
    is_writing = true;
    // What else the current task sends goes out in the same write.
    asio::post(socket.get_executor(), [self = shared_from_this()] { self->write(); });
  }

  void write() {
    if (handler == nullptr) return;
    if (written == writing.size()) {
      written = 0;
      writing.clear();
      if (writing.capacity() > kKeptCapacity) std::string().swap(writing);
      writing.swap(queued);
    }
    is_writing = !writing.empty();
    if (!is_writing) return;
    socket.async_write_some(asio::buffer(writing.data() + written, writing.size() - written),
                            [self = shared_from_this()](const error_code& error, std::size_t count) {
                              self->on_written(error, count);
                            });
  }

  void on_written(const error_code& error, std::size_t count) {
    if (handler == nullptr) return;
    written += count;
    if (!error) {
      write();
      return;
    }
    // The host's last words (why it failed) may still wait to be read: what is there is read up to the end,
    // which a shutdown puts behind it.
    write_error = "writing failed: " + error.message();
    std::string().swap(queued);
    std::string().swap(writing);
    written = 0;
    error_code ignored;
    socket.shutdown(Socket::shutdown_both, ignored);
  }

  std::size_t unsent_bytes() const {
    return handler == nullptr ? 0 : queued.size() + writing.size() - written;
  }

  Socket socket;
  Handler* handler;  ///< Null once closed.
  std::array<char, kReadBytes> chunk{};
  FrameReader reader;
  std::string queued;       ///< Frames that wait for the write under way.
  std::string writing;      ///< Frames of the write under way.
  std::size_t written = 0;  ///< Of `writing`.
  bool is_writing = false;
  std::string write_error;  ///< Not empty once writing has failed.
};

Link::Link(EventLoop& loop, int fd, Handler& handler) {
  Descriptor descriptor(fd);
  impl_ = std::make_shared<Impl>(loop.impl_->context, handler);
  impl_->open(descriptor);
}

Link::~Link() { impl_->close(); }

void Link::send(const wire::ToHost& message) { impl_->send(message); }

std::size_t Link::unsent_bytes() const { return impl_->unsent_bytes(); }

}  // namespace peregrine::channel
