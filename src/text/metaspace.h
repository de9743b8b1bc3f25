// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/json.h"

namespace peregrine::text {

/// What the Metaspace pre-tokenizer and decoder have in common: spaces are written as another character, and
/// a text may get one in front.
struct MetaspaceOptions {
  /// Which sections of a text get one in front: those that begin where the text does, all, or none.
  enum class Prepend { kFirst, kAlways, kNever };

  char32_t replacement = 0;
  Prepend prepend = Prepend::kAlways;
  bool split = true;  ///< Cut in front of every replacement.
};

/// Reads "replacement", "prepend_scheme" (in older files "add_prefix_space") and "split". Throws
/// Error(kInvalidArgument) where the two older and newer members contradict each other.
MetaspaceOptions parse_metaspace(const core::JsonView& json);

}  // namespace peregrine::text
