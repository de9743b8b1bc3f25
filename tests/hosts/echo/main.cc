// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <csignal>

#include "hosts/echo/echo_host.h"
#include "hosts/echo/options.h"

int main(int argc, char** argv) {
  // Ctrl-C goes to all processes of a terminal; when a host ends is for its server to say.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  // It crashes on purpose: no core files.
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  peregrine::echo::run_echo_host(peregrine::echo::parse_options(argc, argv));
}
