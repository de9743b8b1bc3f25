// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace peregrine::cli {

/// Writes a model directory with random weights of a named shape ("falcon-7b:layers=4"), for what wants
/// files: serving, and other programs. config.json; model.safetensors in the type that config.json names, the
/// same numbers as the shape has in memory; and a tokenizer whose ids are the 256 bytes and then made-up
/// words, all of them printable. The directory is made where it is missing. All weights are in memory at
/// once. Throws Error(kInvalidArgument) as model::random_model_config; kUnsupported for encoders that stand
/// alone; kInternal for the disk.
void write_random_model(const std::string& shape, std::uint64_t seed, const std::filesystem::path& directory);

}  // namespace peregrine::cli
