// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace peregrine::generation {

/// What is wanted of an encoder that stands alone.
enum class EncodeKind : std::uint8_t { kEmbed, kClassify };

/// How the last hidden states of a text become one vector: their mean, the first one, or the last one.
enum class Pooling : std::uint8_t { kMean, kCls, kLast };

}  // namespace peregrine::generation
