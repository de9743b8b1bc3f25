// SPDX-License-Identifier: Apache-2.0
#include "core/suggest.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace peregrine::core {
namespace {

TEST(Suggest, NamesTheNearestOrNothing) {
  constexpr std::array<std::string_view, 3> kNames = {"top_k", "top_p", "temperature"};
  EXPECT_EQ(nearest_name("temprature", kNames), "temperature");
  EXPECT_EQ(nearest_name("topk", kNames), "top_k");
  EXPECT_EQ(nearest_name("stream", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name(std::string(1000, 't'), kNames), "");
}

}  // namespace
}  // namespace peregrine::core
