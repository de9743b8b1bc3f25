// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/heap.h"

// The values of a template: Python's, as far as templates see them. Strings, lists, tuples and dicts never
// change once made (the sandbox allows no change), so they are shared, and their nesting is known and bounded
// when they are made.

namespace peregrine::text::jinja {

enum class Kind : std::uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kDictView,
  kIterator,
  kNamespace,
  kMacro,
  kLoop,
  kFunction,
  kMethod,
  kCycler,
  kJoiner,
};

/// Anything that does not fit into a Value itself; reference-counted. An object without heap belongs to a
/// parsed template and is shared between renderings.
class Object {
 public:
  /// `bytes` is what it takes in memory, `depth` how deep its contents are nested: an error beyond the
  /// bounds.
  Object(Heap* heap, std::size_t bytes, unsigned depth);
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  std::uint32_t references() const { return references_.load(std::memory_order_acquire); }
  unsigned depth() const { return depth_; }
  /// Drops what it holds, where that can form circles.
  virtual void clear() {}

 protected:
  Heap* heap() const { return heap_; }
  void charge(std::size_t bytes);

 private:
  std::atomic<std::uint32_t> references_{0};
  unsigned depth_;
  Heap* heap_;
  std::size_t bytes_;
};

struct Text;
struct Sequence;
struct Dict;
struct Range;
struct DictView;
struct Iterator;
struct Namespace;
struct Method;

/// One value. Cheap to copy.
class Value {
 public:
  /// Undefined, with no name.
  Value() : kind_(Kind::kUndefined) {}
  Value(const Value& other) : kind_(other.kind_) {
    copy_payload(other);
    if (holds_object() && object_ != nullptr) object_->retain();
  }
  Value(Value&& other) noexcept : kind_(other.kind_) {
    copy_payload(other);
    other.kind_ = Kind::kNone;
  }
  Value& operator=(Value other) noexcept {
    swap(other);
    return *this;
  }
  ~Value() {
    if (holds_object() && object_ != nullptr) object_->release();
  }
  void swap(Value& other) noexcept;

  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool value);
  static Value integer(Int value);
  static Value real(double value);
  /// Takes part in the ownership of `object`.
  Value(Kind kind, Object* object) : kind_(kind) {
    object_ = object;
    if (object_ != nullptr) object_->retain();
  }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  /// bool, int or float.
  bool is_number() const { return kind_ >= Kind::kBool && kind_ <= Kind::kFloat; }
  /// bool or int: where Python takes an index.
  bool is_integral() const { return kind_ == Kind::kBool || kind_ == Kind::kInt; }
  bool is_list_or_tuple() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }

  // Each for its kind only.
  bool as_bool() const { return boolean_; }
  double as_float() const { return real_; }
  /// Of a bool or int.
  Int as_int() const { return kind_ == Kind::kBool ? Int{boolean_} : integer_; }
  /// Of a bool, int or float.
  double as_real() const { return kind_ == Kind::kFloat ? real_ : static_cast<double>(as_int()); }
  std::string_view as_text() const;
  const Text& text() const;
  const Sequence& sequence() const;
  const Dict& dict() const;
  template <typename T>
  T& object() const {
    return static_cast<T&>(*object_);
  }
  const Object* identity() const { return holds_object() ? object_ : nullptr; }

  bool truthy() const;
  /// How deep it is nested: 0 for what holds nothing.
  unsigned depth() const { return holds_object() && object_ != nullptr ? object_->depth() : 0; }

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  bool holds_object() const { return kind_ == Kind::kUndefined || kind_ >= Kind::kString; }
  void copy_payload(const Value& other) { integer_ = other.integer_; }

  Kind kind_;
  union {
    Int integer_ = 0;  ///< The largest: copied whatever the kind.
    bool boolean_;
    double real_;
    Object* object_;
  };
};

/// A string in valid UTF-8, or the reason of an Undefined.
struct Text : Object {
  Text(Heap* heap, std::string content, bool markup);
  std::size_t length() const;  ///< In code points.
  bool ascii() const { return length() == content.size(); }
  /// Only for the one who holds the only reference.
  void append(std::string_view more);

  std::string content;
  bool markup;  ///< Marked safe: Python's Markup, a string that escapes what is added to it.

 private:
  static constexpr std::size_t kUnknown = ~std::size_t{0};
  mutable std::atomic<std::size_t> length_{kUnknown};
};

/// A list or a tuple.
struct Sequence : Object {
  Sequence(Heap* heap, std::vector<Value> items);
  std::vector<Value> items;
  bool group = false;  ///< A tuple of groupby: (grouper, list) by these names too.
};

/// A dict in the order of insertion.
struct Dict : Object {
  using Entry = std::pair<Value, Value>;
  /// `entries` may name a key several times: the first place and the last value count.
  Dict(Heap& heap, std::vector<Entry> entries);
  const Value* find(std::string_view key) const;
  /// `key` must be hashable.
  const Value* find(const Value& key) const;

  std::vector<Entry> entries;

 private:
  std::vector<std::uint32_t> order_;  ///< Entries by key, where there are many.
};

struct Range : Object {
  /// `step` is not 0. Throws beyond kMaxRange elements.
  Range(Heap* heap, Int start_, Int stop_, Int step_);
  Int start, stop, step;
  Int count;
};

/// What dict.keys(), .values() and .items() give.
struct DictView : Object {
  enum class Part { kKeys, kValues, kItems };
  DictView(Heap* heap, Value dict, Part part_);
  Value element(Heap& heap, std::size_t index) const;
  Value dict;
  Part part;
};

/// A generator: gives its elements once.
struct Iterator : Object {
  using Next = std::function<std::optional<Value>()>;
  /// `source` is what `next` draws from, for the depth.
  Iterator(Heap& heap, const Value& source, Next next_);
  /// The next element; nothing, for ever, after the last.
  std::optional<Value> pull();
  void clear() override { next_ = nullptr; }

 private:
  Next next_;
};

struct Namespace : Object {
  explicit Namespace(Heap& heap) : Object(&heap, 256, 1) {}
  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
  void clear() override { attributes.clear(); }
  std::vector<std::pair<std::string, Value>> attributes;
};

Value make_text(Heap& heap, std::string content, bool markup = false);
Value make_list(Heap& heap, std::vector<Value> items);
Value make_tuple(Heap& heap, std::vector<Value> items);
Value make_dict(Heap& heap, std::vector<Dict::Entry> entries);
Value make_iterator(Heap& heap, const Value& source, Iterator::Next next);
/// Undefined, with the message of the error that using it gives.
Value make_undefined(Heap& heap, std::string reason);
/// A string of a parsed template, in no heap.
Value make_constant(std::string content);

/// Throws where `key` cannot be a key of a dict.
void check_hashable(Heap& heap, const Value& key);
/// An order of hashable values in which those that Python holds equal are equal: -1, 0, 1.
int compare_keys(Heap& heap, const Value& a, const Value& b);
/// -1, 0, 1, for int, bool and float without rounding; NaN is below everything and equal to itself.
int compare_numbers(const Value& a, const Value& b);

/// "str", "NoneType", "list", ...
std::string_view type_name(const Value& value);
/// As Jinja describes the owner of a missing attribute: "dict object", "None".
std::string owner_name(const Value& value);
/// Throws the error that any use of an Undefined gives.
[[noreturn]] void fail_undefined(const Value& undefined);

inline std::string_view Value::as_text() const { return text().content; }
inline const Text& Value::text() const { return object<Text>(); }
inline const Sequence& Value::sequence() const { return object<Sequence>(); }
inline const Dict& Value::dict() const { return object<Dict>(); }

}  // namespace peregrine::text::jinja
