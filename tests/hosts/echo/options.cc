// SPDX-License-Identifier: Apache-2.0
#include "hosts/echo/options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

namespace peregrine::echo {

Options parse_options(int argc, const char* const* argv) {
  Options options;
  CLI::App app("An engine host that computes nothing: answers a prompt with the prompt's own tokens.");
  app.add_option("--channel-fd", options.channel_fd, "Descriptor of the channel to the server")
      ->required()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--vocab", options.vocab, "Size of the vocabulary")->check(CLI::PositiveNumber);
  app.add_option("--max-model-len", options.max_model_len, "Longest prompt and output together, in tokens")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-sequences", options.max_sequences, "Sequences that run at once")
      ->check(CLI::PositiveNumber);
  app.add_option("--load-ms", options.load_ms, "How long a load takes");
  app.add_option("--step-ms", options.step_ms, "How long a step takes; 0: as fast as possible");
  app.add_option("--fail-load", options.fail_load, "Every load fails with this text");
  app.add_option("--crash-after-steps", options.crash_after_steps, "Aborts after so many steps; 0: never");
  app.add_option("--hang-after-steps", options.hang_after_steps,
                 "Neither steps nor answers after so many steps; 0: never");
  app.add_option("--crash-epochs", options.crash_epochs,
                 "Crashes and hangs only in the first so many starts of the host");
  app.add_option("--embedding-size", options.embedding_size, "Be an encoder with embeddings of this size")
      ->check(CLI::PositiveNumber);
  app.add_option("--labels", options.labels, "Classes of the encoder");
  app.add_flag("--encoder-decoder", options.encoder_decoder, "Says that it is an encoder-decoder");
  app.add_flag("--invoke-echo", options.invoke_echo, "Answers Invoke with its own body");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  return options;
}

}  // namespace peregrine::echo
