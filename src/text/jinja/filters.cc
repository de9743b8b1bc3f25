// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/filters.h"

namespace peregrine::text::jinja {

const Filter* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), sequence_filters(), selection_filters(), number_filters()}) {
    for (const Filter& filter : table) {
      if (filter.name == name) return &filter;
    }
  }
  return nullptr;
}

}  // namespace peregrine::text::jinja
