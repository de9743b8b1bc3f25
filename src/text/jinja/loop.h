// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/iteration.h"
#include "text/jinja/syntax.h"

namespace peregrine::text::jinja {

struct Scope;

/// A running for statement, and the `loop` variable of its body. It reads ahead only where it is asked for
/// what comes next.
class Loop : public Object {
 public:
  using Passes = std::function<bool(const Value&)>;
  /// `passes` is the loop's filter, or empty. `outer` is the scope around the loop.
  Loop(Heap& heap, const ForStatement& statement, const Value& iterable, Passes passes,
       std::shared_ptr<Scope> outer, unsigned depth);

  /// Moves to the next element; nothing after the last.
  std::optional<Value> advance();

  std::optional<Value> attribute(std::string_view name);
  /// Whether `values` are others than at the last call.
  bool changed(Heap& heap, const std::vector<Value>& values);
  Int index0() const { return index0_; }
  unsigned nesting() const { return nesting_; }
  const ForStatement& statement() const { return statement_; }
  const std::shared_ptr<Scope>& outer() const { return outer_; }
  std::string repr();
  /// The end of the loop: what it holds goes, since that may be the loop itself.
  void clear() override;

 private:
  std::optional<Value> pull();
  const std::optional<Value>& peek();
  Int length();

  const ForStatement& statement_;
  std::optional<Cursor> cursor_;
  std::optional<Int> length_;
  Passes passes_;
  std::shared_ptr<Scope> outer_;
  unsigned nesting_;
  Int index0_ = -1;
  bool peeked_ = false;
  std::optional<Value> after_;
  Value current_;
  Value before_;
  std::vector<Value> ahead_;  ///< Elements drawn to count them, last first.
  std::optional<std::vector<Value>> last_changed_;
};

}  // namespace peregrine::text::jinja
