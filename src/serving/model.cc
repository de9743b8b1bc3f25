// SPDX-License-Identifier: Apache-2.0
#include "serving/model.h"

namespace peregrine::serving {

const char* to_string(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "loading";
    case ModelState::kReady:
      return "ready";
    case ModelState::kRestarting:
      return "restarting";
    case ModelState::kDraining:
      return "draining";
    case ModelState::kFailed:
      return "failed";
  }
  return "unknown";
}

}  // namespace peregrine::serving
