// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "text/aligned_text.h"

namespace peregrine::text {

/// The Unicode normalization forms (UAX #15).
enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// `text` in a normalization form. A composed character stands for the first of its parts.
void apply_normal_form(AlignedText& text, NormalForm form);

}  // namespace peregrine::text
