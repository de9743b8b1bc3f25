// SPDX-License-Identifier: Apache-2.0
#include "weights/safetensors_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/string_view.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "core/checked.h"
#include "core/error.h"
#include "weights/safetensors_header.h"
#include "weights/tensor.h"

namespace peregrine::weights {
namespace {

using core::ErrorKind;
using core::fail;

std::string json_string(std::string_view text) {
  return boost::json::serialize(boost::json::string_view(text));
}

/// The tensors in the order of their data.
std::vector<const TensorToWrite*> ordered(std::span<const TensorToWrite> tensors, const std::string& where) {
  std::vector<const TensorToWrite*> out;
  for (const auto& tensor : tensors) {
    const auto bytes = byte_size(tensor.shape, tensor.dtype);
    if (!bytes || *bytes != tensor.data.size()) {
      fail(ErrorKind::kInvalidArgument, "{}: tensor {}: shape {} of {} does not fit {} bytes of data", where,
           core::quoted(tensor.name), shape_text(tensor.shape), safetensors_dtype_name(tensor.dtype),
           tensor.data.size());
    }
    if (tensor.name == "__metadata__") {
      fail(ErrorKind::kInvalidArgument, "{}: a tensor cannot be called '__metadata__'", where);
    }
    out.push_back(&tensor);
  }
  std::sort(out.begin(), out.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  const auto twice = std::adjacent_find(out.begin(), out.end(),
                                        [](const auto* a, const auto* b) { return a->name == b->name; });
  if (twice != out.end()) {
    fail(ErrorKind::kInvalidArgument, "{}: tensor {} is given twice", where, core::quoted((*twice)->name));
  }
  std::stable_sort(out.begin(), out.end(), [](const auto* a, const auto* b) {
    return core::size_of(a->dtype) > core::size_of(b->dtype);
  });
  return out;
}

std::string header_of(const std::vector<const TensorToWrite*>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string out = "{";
  if (!metadata.empty()) {
    out += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (out.back() != '{') out += ',';
      out += json_string(key) + ':' + json_string(value);
    }
    out += '}';
  }
  std::uint64_t offset = 0;
  for (const auto* tensor : tensors) {
    if (out.back() != '{') out += ',';
    out += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                       json_string(tensor->name), safetensors_dtype_name(tensor->dtype),
                       fmt::join(tensor->shape, ","), offset, offset + tensor->data.size());
    offset += tensor->data.size();
  }
  out += '}';
  out.resize(core::round_up<std::size_t>(out.size(), 8), ' ');
  return out;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string where = path.string();
  const auto order = ordered(tensors, where);
  const std::string header = header_of(order, metadata);
  if (header.size() > kMaxSafetensorsHeader) {
    fail(ErrorKind::kInvalidArgument, "{}: a header of {} bytes; at most {} are allowed", where,
         header.size(), kMaxSafetensorsHeader);
  }
  std::string prefix(kSafetensorsPrefix, '\0');
  for (std::size_t i = 0; i < prefix.size(); ++i) prefix[i] = static_cast<char>(header.size() >> (8 * i));

  const std::filesystem::path unfinished = where + ".unfinished";
  std::ofstream out(unfinished, std::ios::binary | std::ios::trunc);
  out.write(prefix.data(), static_cast<std::streamsize>(prefix.size()));
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const auto* tensor : order) {
    out.write(reinterpret_cast<const char*>(tensor->data.data()),
              static_cast<std::streamsize>(tensor->data.size()));
  }
  out.close();
  std::error_code error;
  if (!out) {
    error = std::error_code(errno, std::generic_category());
  } else {
    std::filesystem::rename(unfinished, path, error);
  }
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(unfinished, ignored);
    fail(ErrorKind::kInternal, "cannot write {}: {}", where, error.message());
  }
}

}  // namespace peregrine::weights
