// SPDX-License-Identifier: Apache-2.0
#define PEREGRINE_PASSES passes_plain
#include "decoding/passes/passes_body.h"
