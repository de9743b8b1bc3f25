// SPDX-License-Identifier: Apache-2.0
#define PEREGRINE_PASSES passes_avx2
#include "decoding/passes/passes_body.h"
