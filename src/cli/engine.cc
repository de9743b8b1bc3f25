// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <cstdlib>
#include <memory>

#include "cli/commands.h"
#include "host/host.h"

namespace peregrine::cli {

void add_engine(CLI::App& app) {
  auto channel = std::make_shared<int>(-1);
  CLI::App* command = app.add_subcommand("engine", "An engine host; `serve` starts these by itself");
  command->add_option("--channel-fd", *channel, "Descriptor of the connected socket to the server")
      ->required();
  command->callback([channel] {
    // The server decides when a host ends, also where a terminal or a supervisor signals the whole group.
    std::signal(SIGINT, SIG_IGN);
    std::signal(SIGTERM, SIG_IGN);
    std::exit(host::run(*channel, PEREGRINE_VERSION));
  });
}

}  // namespace peregrine::cli
