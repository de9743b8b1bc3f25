// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <filesystem>
#include <optional>

#include "core/json.h"
#include "text/file_composer.h"

namespace peregrine::text {

/// A vocabulary in one of the forms from before tokenizer.json, as the contents of a tokenizer.json.
struct ComposedFile {
  boost::json::value json;
  std::string where;  ///< The file that the vocabulary came from, for messages.
};

/// Reads what `model_dir` has of: a SentencePiece model (tokenizer.model, spiece.model,
/// sentencepiece.bpe.model), vocab.json with merges.txt (byte-level BPE), vocab.txt (BERT's WordPiece). The
/// flags, the special tokens and the class come from tokenizer_config.json (`config`, which may be null) and
/// special_tokens_map.json. Nothing where there is none of these files. Throws Error: kUnsupported for a
/// tokenizer class that is not known in this form, kInvalidArgument where something is wrong in a file.
std::optional<ComposedFile> compose_tokenizer_file(const std::filesystem::path& model_dir,
                                                   const core::JsonView* config);

/// The parts of a SentencePiece model: the bytes of a .model file (`where` names it) go to `composer`.
void compose_sentencepiece(std::string_view bytes, const std::string& where, FileComposer& composer);

}  // namespace peregrine::text
