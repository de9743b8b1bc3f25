// SPDX-License-Identifier: Apache-2.0
#include "core/processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>

#include "core/cgroup.h"

namespace peregrine::core {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

std::vector<int> first(int count) {
  std::vector<int> out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

TEST(Processors, ThisMachineHasSome) {
  const std::vector<int> allowed = allowed_processors();
  ASSERT_FALSE(allowed.empty());
  std::size_t processors = 0;
  for (const Core& core : find_cores(allowed)) processors += core.processors.size();
  EXPECT_EQ(processors, allowed.size());
  EXPECT_GE(default_threads(), 1);
  EXPECT_LE(default_threads(), static_cast<int>(allowed.size()));
}

TEST(Processors, CoresComeNodeByNodeWithTheirHardwareThreads) {
  const std::vector<Core> cores = find_cores(first(16), "node:2 core:4 pu:2");
  ASSERT_EQ(cores.size(), 8u);
  for (std::size_t i = 0; i < cores.size(); ++i) {
    EXPECT_EQ(cores[i].node, i < 4 ? 0 : 1);
    EXPECT_THAT(cores[i].processors, ElementsAre(static_cast<int>(2 * i), static_cast<int>(2 * i + 1)));
  }
}

TEST(Processors, OnlyThoseInTheMaskCount) {
  const std::vector<int> allowed = {1, 4, 5, 11};
  const std::vector<Core> cores = find_cores(allowed, "node:2 core:4 pu:2");
  ASSERT_EQ(cores.size(), 3u);
  EXPECT_THAT(cores[0].processors, ElementsAre(1));
  EXPECT_THAT(cores[1].processors, ElementsAre(4, 5));
  EXPECT_THAT(cores[2].processors, ElementsAre(11));
  EXPECT_EQ(cores[2].node, 1);
}

TEST(Processors, WhereTheMachineIsNotKnownTheMaskIsBelieved) {
  for (const std::string machine : {"no such thing", "node:1 core:2 pu:1"}) {
    const std::vector<Core> cores = find_cores(first(3), machine);
    ASSERT_EQ(cores.size(), 3u) << machine;
    for (const Core& core : cores) EXPECT_EQ(core.node, 0);
    EXPECT_THAT(cores[2].processors, ElementsAre(2));
  }
}

TEST(Processors, OneThreadForEachCoreWithinTheQuota) {
  const std::vector<Core> cores = find_cores(first(16), "node:2 core:4 pu:2");
  EXPECT_EQ(worthwhile_threads(cores, kUnlimited), 8);
  EXPECT_EQ(worthwhile_threads(cores, 100), 8);
  EXPECT_EQ(worthwhile_threads(cores, 3.9), 3);
  EXPECT_EQ(worthwhile_threads(cores, 0.2), 1);
  EXPECT_EQ(worthwhile_threads({}, kUnlimited), 1);
}

TEST(Processors, SeatsOnlyWhereThePoolCoversTheCores) {
  const std::vector<Core> cores = find_cores(first(16), "node:2 core:4 pu:2");
  const Seats by_core = plan_seats(cores, 8);
  ASSERT_EQ(by_core.size(), 8u);
  EXPECT_THAT(by_core[0], ElementsAre(0, 1));
  EXPECT_THAT(by_core[7], ElementsAre(14, 15));
  const Seats by_processor = plan_seats(cores, 16);
  ASSERT_EQ(by_processor.size(), 16u);
  EXPECT_THAT(by_processor[14], ElementsAre(14, 15));
  for (const int threads : {0, 1, 7, 9, 17}) EXPECT_THAT(plan_seats(cores, threads), IsEmpty()) << threads;
}

TEST(Processors, ASeatIsLeftAsItWasTaken) {
  const std::vector<int> before = allowed_processors();
  {
    const std::vector<int> seat = {before.back()};
    const Seated seated(seat);
    EXPECT_EQ(allowed_processors(), seat);
  }
  EXPECT_EQ(allowed_processors(), before);
  const Seated nowhere({});
  EXPECT_EQ(allowed_processors(), before);
  EXPECT_FALSE(sit_on({}));
  EXPECT_FALSE(sit_on(std::vector<int>{-1}));
}

/// A directory that stands for "/".
class CpuQuota : public testing::Test {
 protected:
  CpuQuota()
      : root_(fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(root_);
  }
  ~CpuQuota() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  double quota() const { return cpu_quota(root_); }

  const fs::path root_;
};

constexpr const char* kV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";

TEST_F(CpuQuota, NoFilesNoLimit) { EXPECT_EQ(quota(), kUnlimited); }

TEST_F(CpuQuota, TheSmallestOfTheGroupAndThoseAroundItCounts) {
  write("proc/self/cgroup", "0::/kubepods/pod1/box\n");
  write("proc/self/mountinfo", std::string("22 1 8:1 / / rw - ext4 /dev/sda rw\n") + kV2);
  write("sys/fs/cgroup/kubepods/pod1/box/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), kUnlimited);
  write("sys/fs/cgroup/kubepods/pod1/cpu.max", "350000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3.5);
  write("sys/fs/cgroup/kubepods/cpu.max", "800000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3.5);
  write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.5);
  write("sys/fs/cgroup/kubepods/pod2/cpu.max", "10000 100000\n");
  write("cpu.max", "10000 100000\n");  // outside of the hierarchy
  EXPECT_DOUBLE_EQ(quota(), 1.5);
}

TEST_F(CpuQuota, AContainerThatSeesOnlyItsOwnGroup) {
  write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  for (const char* group : {"0::/\n", "0::/../../outside\n"}) {
    write("proc/self/cgroup", group);
    write("proc/self/mountinfo", kV2);
    EXPECT_DOUBLE_EQ(quota(), 2) << group;
  }
  // What is mounted is the group itself, by its name outside.
  write("proc/self/cgroup", "0::/docker/a b\n");
  write("proc/self/mountinfo", "30 23 0:26 /docker/a\\040b /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  EXPECT_DOUBLE_EQ(quota(), 2);
}

TEST_F(CpuQuota, VersionOne) {
  write("proc/self/cgroup", "5:memory:/box\n4:cpu,cpuacct:/box/inner\n3:cpuset:/\n0::/\n");
  write("proc/self/mountinfo",
        "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
        "32 30 0:28 / /sys/fs/cgroup/cpuset rw shared:11 - cgroup cgroup rw,cpuset\n");
  const std::string cpu = "sys/fs/cgroup/cpu,cpuacct/";
  write(cpu + "box/inner/cpu.cfs_quota_us", "-1\n");
  write(cpu + "box/inner/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), kUnlimited);
  write(cpu + "box/cpu.cfs_quota_us", "50000\n");
  write(cpu + "box/cpu.cfs_period_us", "20000\n");
  EXPECT_DOUBLE_EQ(quota(), 2.5);
}

TEST_F(CpuQuota, OddFilesAreNoLimit) {
  write("proc/self/cgroup", "0::/box\nnonsense\n:\n");
  write("proc/self/mountinfo", std::string("\n1 2\n") + kV2 + "9 9 9:9 / /x rw");
  for (const char* text :
       {"", "max", "-5 100000", "100000", "100000 0", "100000 -1", "x y", "nan 1", "0 100000"}) {
    write("sys/fs/cgroup/box/cpu.max", text);
    EXPECT_EQ(quota(), kUnlimited) << text;
  }
}

}  // namespace
}  // namespace peregrine::core
