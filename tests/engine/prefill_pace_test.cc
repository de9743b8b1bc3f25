// SPDX-License-Identifier: Apache-2.0
#include "engine/prefill_pace.h"

#include <gtest/gtest.h>

namespace peregrine::engine {
namespace {

constexpr std::int32_t kLeast = 16;

TEST(PrefillPace, FitsPromptsBesideDecodes) {
  PrefillPace pace(0.1);
  for (int i = 0; i < 50; ++i) {
    pace.note(0.04, 8, 0);           // decoding alone
    pace.note(0.04 + 0.064, 8, 64);  // a millisecond for each row of a prompt
  }
  EXPECT_NEAR(pace.rows(), 60, 1);
}

TEST(PrefillPace, LearnsFromPromptsThatRunAlone) {
  PrefillPace pace(0.1);
  pace.note(0.5, 0, 500);
  EXPECT_NEAR(pace.rows(), 100, 1);
  pace.note(0.05, 1, 0);
  EXPECT_NEAR(pace.rows(), 50, 1);
}

TEST(PrefillPace, FollowsAMachineThatGetsSlower) {
  PrefillPace pace(0.1);
  pace.note(0.5, 0, 500);
  pace.note(0.02, 4, 0);
  const std::int32_t before = pace.rows();
  for (int i = 0; i < 50; ++i) {
    pace.note(0.04, 4, 0);
    pace.note(0.04 + 0.06, 4, 30);
  }
  EXPECT_NEAR(before, 80, 1);
  EXPECT_NEAR(pace.rows(), 30, 1);
}

TEST(PrefillPace, PromptsAlwaysGetOn) {
  PrefillPace pace(0.1);
  EXPECT_GE(pace.rows(), kLeast);  // nothing known
  pace.note(0.3, 32, 0);           // decodes alone beyond the target
  pace.note(0.4, 32, 16);
  EXPECT_EQ(pace.rows(), kLeast);
}

TEST(PrefillPace, TimesThatMakeNoSenseDoNoHarm) {
  PrefillPace pace(0.1);
  pace.note(0.04, 8, 64);  // nothing is known of decodes alone
  EXPECT_EQ(pace.rows(), 64);
  pace.note(0.04, 8, 0);
  pace.note(0.01, 8, 64);  // faster than without prompts
  EXPECT_GE(pace.rows(), kLeast);
  pace.note(0, 0, 0);
  pace.note(0, 0, 5);
  EXPECT_GE(pace.rows(), kLeast);
}

}  // namespace
}  // namespace peregrine::engine
