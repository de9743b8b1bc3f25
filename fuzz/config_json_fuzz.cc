// SPDX-License-Identifier: Apache-2.0
// rooms: model_info core
//
// The input is a config.json, then, behind a zero byte, a generation_config.json. An input without a zero
// byte is read as either of them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "model_info/model_info.h"

namespace {

using namespace peregrine;  // NOLINT

void require(bool condition) {
  if (!condition) std::abort();
}

void check(std::string_view config, std::optional<std::string_view> generation) {
  try {
    const auto directory = model_info::ModelDirectory::parse("fuzz", config, generation);
    const auto& info = directory.info();
    require(directory.config().is_object() && !info.architecture.empty());
    for (const auto id : info.eos_token_ids) require(id >= 0);
    if (info.generation.top_p) require(*info.generation.top_p >= 0 && *info.generation.top_p <= 1);
    if (info.generation.bad_words_ids) {
      for (const auto& word : *info.generation.bad_words_ids) require(!word.empty());
    }
  } catch (const core::Error& error) {
    require(core::exit_code(error.kind()) == 2);
    require(std::string_view(error.what()).starts_with("fuzz/"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos) {
    check(text.substr(0, zero), text.substr(zero + 1));
  } else {
    check(text, std::nullopt);
    check(R"({"model_type":"x"})", text);
  }
  return 0;
}
