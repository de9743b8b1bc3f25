// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/json.h"
#include "text/aligned_text.h"

namespace peregrine::text {

/// Rewrites a section of text before it is cut into pieces. Immutable; safe to use from many threads.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void normalize(AlignedText& text) const = 0;
};

/// The "normalizer" of a tokenizer file: NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Nmt,
/// BertNormalizer, Precompiled, Prepend, Replace, ByteLevel or a Sequence of these. Throws Error as
/// component.h says.
std::unique_ptr<Normalizer> make_normalizer(const core::JsonView& json);

}  // namespace peregrine::text
