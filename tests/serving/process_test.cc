// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <thread>

#include "serving/engine_process.h"
#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using ::testing::HasSubstr;

void wait_for_end(EngineProcess& process) {
  while (!process.ended()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(EngineProcess, SaysHowItEnded) {
  const int channel = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  // What follows the script are its own arguments.
  EngineProcess normal({"sh", "-c", "exit 3"}, channel);
  EngineProcess crashed({"sh", "-c", "kill -SEGV $$"}, channel);
  EngineProcess endless({"sh", "-c", "while :; do sleep 1; done"}, channel);
  wait_for_end(normal);
  wait_for_end(crashed);
  EXPECT_EQ(normal.outcome(), "exit code 3");
  EXPECT_EQ(crashed.outcome(), "signal SIGSEGV");
  EXPECT_FALSE(endless.ended());
  endless.kill();
  wait_for_end(endless);
  EXPECT_EQ(endless.outcome(), "signal SIGKILL");
  ::close(channel);
}

TEST(EngineProcess, IsNeverLeftBehind) {
  const int channel = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  { const EngineProcess process({"sh", "-c", "while :; do sleep 1; done"}, channel); }
  EXPECT_FALSE(has_children());
  ::close(channel);
}

TEST(EngineProcess, NamesAProgramThatIsNotThere) {
  try {
    const EngineProcess process({"/nowhere/peregrine", "engine"}, 0);
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("'/nowhere/peregrine': No such file"));
  }
  EXPECT_THROW(EngineProcess({}, 0), core::Error);
  EXPECT_FALSE(has_children());
}

TEST_F(ServingTest, TheHostInheritsItsChannelAndNothingElse) {
  // A descriptor that a library left open, and signals that the server blocks and ignores.
  const int stray = ::open("/dev/null", O_RDONLY);
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto old = ::signal(SIGUSR2, SIG_IGN);
  serve(bad("report"));
  ::signal(SIGUSR2, old);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::close(stray);

  std::ifstream file(folder_.path() / "starts.report");
  const std::string report(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(report, HasSubstr("fd 0 /dev/null\n"));
  EXPECT_THAT(report, HasSubstr("fd 3 socket:"));
  EXPECT_EQ(report.find("fd 4"), std::string::npos) << report;
  EXPECT_EQ(report.find("fd 5"), std::string::npos) << report;
  EXPECT_THAT(report, HasSubstr("pgid " + std::to_string(::getpgrp()) + "\n"));
  EXPECT_THAT(report, HasSubstr("SigBlk:\t0000000000000000\n"));
  // Beyond the first 31 are those that the C library keeps for itself.
  const std::size_t ignored = report.find("SigIgn:\t");
  ASSERT_NE(ignored, std::string::npos);
  EXPECT_EQ(std::stoull(report.substr(ignored + 8), nullptr, 16) & 0x7fffffffu, 0u) << report;
}

}  // namespace
}  // namespace peregrine::serving
