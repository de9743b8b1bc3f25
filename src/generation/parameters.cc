// SPDX-License-Identifier: Apache-2.0
#include "generation/parameters.h"

namespace peregrine::generation {

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kEosToken:
      return "eos_token";
    case FinishReason::kStopSequence:
      return "stop_sequence";
    case FinishReason::kError:
      return "error";
    case FinishReason::kAbort:
      return "abort";
  }
  return "error";
}

}  // namespace peregrine::generation
