// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace peregrine::echo {

/// What the command line says.
struct Options {
  int channel_fd = -1;
  std::int32_t vocab = 2048;
  std::int64_t max_model_len = 1024;
  std::int32_t max_sequences = 32;
  std::uint32_t load_ms = 0;            ///< How long a load takes.
  std::uint32_t step_ms = 0;            ///< How long a step takes; 0: as fast as it can.
  std::string fail_load{};              ///< Not empty: every load fails with this text.
  std::uint64_t crash_after_steps = 0;  ///< abort() after so many steps; 0: never.
  std::uint64_t hang_after_steps = 0;   ///< Neither steps nor answers after so many steps; 0: never.
  std::uint64_t crash_epochs = 1;       ///< Crashes and hangs only in the first so many starts of the host.
  std::int32_t embedding_size = 0;      ///< Above 0: the host is an encoder, and generates nothing.
  std::int32_t labels = 0;              ///< Of the encoder's classifier.
  bool encoder_decoder = false;         ///< Says that it is one.
  bool invoke_echo = false;             ///< Answers Invoke with its own body.
};

/// Ends the program where the command line asks for help or is wrong (exit code 2).
Options parse_options(int argc, const char* const* argv);

}  // namespace peregrine::echo
