// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cli/commands.h"
#include "core/error.h"
#include "core/log.h"

namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

bool is_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->check_name(name)) return true;
  }
  return false;
}

/// Throws Error naming the first argument where that should be a command and is none; CLI11 would only say
/// that a command is missing.
void check_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-' || is_command(app, argv[1])) return;
  std::string known;
  for (const CLI::App* command : app.get_subcommands({}))
    known += (known.empty() ? "" : ", ") + command->get_name();
  peregrine::core::fail(peregrine::core::ErrorKind::kInvalidArgument, "command {} is unknown; known are {}",
                        peregrine::core::quoted(argv[1]), known);
}

/// Parses and runs; returns the exit code.
int run(int argc, char** argv) {
  CLI::App app(
      "Peregrine: a large-model inference server.\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage or bad input.");
  app.name("peregrine");
  app.set_version_flag("--version", PEREGRINE_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  std::string log_level = "info";
  app.add_option("--log-level", log_level,
                 "trace, debug, info, warn, error or off; logs go to standard error")
      ->capture_default_str();
  app.parse_complete_callback([&] { peregrine::core::configure_logging(log_level); });

  peregrine::cli::add_generate(app);
  peregrine::cli::add_embed(app);
  peregrine::cli::add_logits(app);
  peregrine::cli::add_tokenize(app);
  peregrine::cli::add_detokenize(app);
  peregrine::cli::add_inspect(app);
  peregrine::cli::add_render(app);
  peregrine::cli::add_bench(app);
  peregrine::cli::add_serve(app);
  peregrine::cli::add_engine(app);
  check_command(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? 0 : kWrongUsage;
  }
  // A full disk or a closed pipe must not look like success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    peregrine::core::fail(peregrine::core::ErrorKind::kInternal, "cannot write to standard output");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const peregrine::core::Error& error) {
    std::fprintf(stderr, "peregrine: %s\n", error.what());
    return peregrine::core::exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "peregrine: out of memory\n");
    return kFailed;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "peregrine: internal error: %s\n", error.what());
    return kFailed;
  }
}
