// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "text/jinja/callables.h"

namespace peregrine::text::jinja {

/// `format % values`: values is a tuple of several, a dict for %(name)s, or one value.
Value format_percent(Heap& heap, const Value& format, const Value& values);

/// str.format(), as the sandbox allows it: no attributes with underscores.
Value format_braces(Heap& heap, const Value& format, const CallArguments& arguments);

}  // namespace peregrine::text::jinja
