// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "text/jinja/value.h"

// Python's operators. Each throws Failure with Python's reason where the types do not go together.

namespace peregrine::text::jinja {

enum class Arithmetic { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class Order { kLess, kLessEqual, kGreater, kGreaterEqual };

Value arithmetic(Heap& heap, Arithmetic operation, Value left, const Value& right);
Value negate(const Value& value);
Value positive(const Value& value);

bool equal(Heap& heap, const Value& a, const Value& b);
bool ordered(Heap& heap, Order order, const Value& a, const Value& b);
/// `needle in haystack`.
bool contains(Heap& heap, const Value& needle, const Value& haystack);

/// round(): half to even, of the exact value.
double round_float(double value, int digits);

}  // namespace peregrine::text::jinja
