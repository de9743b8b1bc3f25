// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

// Each function adds one command, with its options, to the application; the command runs when CLI11 calls it
// back. Errors are thrown as core::Error.

namespace peregrine::cli {

void add_generate(CLI::App& app);
void add_embed(CLI::App& app);
void add_logits(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_detokenize(CLI::App& app);
void add_inspect(CLI::App& app);
void add_render(CLI::App& app);
void add_bench(CLI::App& app);
void add_serve(CLI::App& app);
void add_engine(CLI::App& app);

}  // namespace peregrine::cli
