// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "generation/encode.h"
#include "serving/generation.h"

namespace peregrine::serving {

/// A text for an encoder.
struct EncodeRequest {
  std::string request_id;  ///< The client's, for logs.
  generation::EncodeKind kind = generation::EncodeKind::kEmbed;
  std::vector<std::int32_t> ids;                             ///< Not empty.
  std::vector<std::int32_t> token_types;                     ///< Empty, or one for each id.
  generation::Pooling pooling = generation::Pooling::kMean;  ///< kEmbed.
  bool normalize = true;                                     ///< kEmbed.
};

/// A text on its way. Destroying it cancels it. Used by one thread at a time.
class Encoding {
 public:
  virtual ~Encoding() = default;

  /// True once the vector is there, which is moved to `out` (the embedding, or the class scores before any
  /// softmax). Throws Error where the request failed; every later call throws the same.
  virtual bool take(std::vector<float>& out) = 0;

  virtual Timing timing() const = 0;
};

}  // namespace peregrine::serving
