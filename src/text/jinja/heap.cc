// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/heap.h"

#include "text/jinja/value.h"

namespace peregrine::text::jinja {

Heap::~Heap() {
  // First all lose what they hold, while all are still there; then they go.
  for (Object* object : kept_) object->clear();
  for (Object* object : kept_) object->release();
}

void Heap::keep(Object& object) {
  if (kept_.size() >= next_sweep_) sweep();
  kept_.push_back(&object);
  object.retain();
}

void Heap::sweep() {
  std::size_t left = 0;
  for (Object* object : kept_) {
    if (object->references() > 1) {
      kept_[left++] = object;
    } else {
      object->clear();
      object->release();
    }
  }
  kept_.resize(left);
  next_sweep_ = 2 * left + 256;
}

void Heap::fail_steps() { fail("it takes more than {} steps", kMaxSteps); }
void Heap::fail_memory() { fail("its values take more than {} MiB of memory", kMaxMemoryBytes >> 20); }
void Heap::fail_text() { fail("a text grows beyond {} MiB", kMaxTextBytes >> 20); }
void Heap::fail_depth() { fail("calls are nested more than {} deep", kMaxCallDepth); }

}  // namespace peregrine::text::jinja
