// SPDX-License-Identifier: Apache-2.0
#include "ops/device.h"

#include <utility>

#include "core/error.h"
#include "ops/cpu/cpu_device.h"
#include "ops/reference/reference_device.h"

namespace peregrine::ops {

Buffer::~Buffer() {
  if (device_ != nullptr) device_->free(address_, size_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      address_(std::exchange(other.address_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  return *this;
}

std::unique_ptr<Device> create_device(const std::string& name, const DeviceOptions& options) {
  if (name == "cpu") return cpu::create_cpu_device(options);
  if (name == "reference") return reference::create_reference_device(options);
  core::fail(core::ErrorKind::kInvalidArgument, "device {} is unknown; known are cpu and reference",
             core::quoted(name));
}

std::vector<std::string> available_isas() { return cpu::available_isas(); }

}  // namespace peregrine::ops
