// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input is a chat template, then, behind a zero byte, the variables as a JSON object.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "text/chat_template.h"
#include "text/unicode.h"

namespace {

constexpr std::string_view kVariables =
    R"({"messages": [{"role": "user", "content": "hi \u00e9", "n": 1.5}, {"role": "assistant", "content": [1, null]}],
        "tools": [{"type": "function", "function": {"name": "f"}}], "x": "a b", "add_generation_prompt": true})";

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using peregrine::text::ChatTemplate;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = std::min(input.find('\0'), input.size());
  const std::string_view json = zero < input.size() ? input.substr(zero + 1) : kVariables;
  try {
    const auto variables = peregrine::core::parse_json(json, "variables");
    if (!variables.is_object()) return 0;
    const auto chat_template = ChatTemplate::parse(input.substr(0, zero), "input");
    const std::string once = chat_template->render(variables.get_object(), 0);
    require(peregrine::text::is_valid_utf8(once));
    require(chat_template->render(variables.get_object(), 0) == once);
  } catch (const peregrine::core::Error& error) {
    require(error.kind() != peregrine::core::ErrorKind::kInternal);
  }
  return 0;
}
