// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generation/parameters.h"
#include "model_info/model_info.h"

namespace peregrine::generation {

/// What a parameter is, for --help, documentation and error messages.
struct ParameterInfo {
  std::string_view name;
  std::vector<std::string_view> aliases;  ///< Other names that are read the same way.
  std::string_view type;                  ///< "integer", "number", "boolean", "list of token ids", ...
  std::string allowed;                    ///< "1 to 2147483647", "[0, 1]", "at most 1024 ids", ...
  std::string_view meaning;               ///< One line.
};

/// All parameters, in documentation order.
std::span<const ParameterInfo> parameter_table();

/// The parameters that one request sets explicitly, by name.
class ParameterSet {
 public:
  /// Sets one parameter from its JSON value; null means not set, except that eos_token_id null means that no
  /// token ends a sequence where `null_eos_means_none` (Hugging Face's generate()). An integer may be written
  /// as 4.0. Returns false for a name that is no parameter. Throws Error(kInvalidArgument, or kUnsupported
  /// for a known parameter of others that would change the result) that names the parameter, the value and
  /// what is allowed, or two names of one parameter that were given different values.
  bool set(std::string_view name, const boost::json::value& value, bool null_eos_means_none = false);

  /// The parameter name nearest to `name` by edit distance, for "did you mean"; empty where none is near.
  static std::string_view suggestion(std::string_view name);

  /// Applies what was set over the model's defaults (generation_config.json) over Parameters' own defaults,
  /// and checks the combination and the token ids against `vocab_size`. `prompt_size` is what max_length
  /// counts beside the output. Sampling is on where do_sample says so; else where the model's do_sample does;
  /// else if the request gives a temperature (as LMI since 0.32); and never at temperature 0. Defaults of the
  /// model that cannot hold here are passed over: ids outside the vocabulary, a max_length the prompt has
  /// used up. Beams never sample: the model's do_sample gives way to beams, the model's num_beams to a
  /// request that samples; a request that asks for both is refused. Throws Error(kInvalidArgument or
  /// kUnsupported) that names the parameter.
  Parameters resolve(const model_info::ModelInfo& model, std::int64_t vocab_size,
                     std::int64_t prompt_size = 0) const;

 private:
  struct Given {
    std::string name;  ///< As the request has it: the parameter's own name or an alias.
    boost::json::value value;
  };
  std::map<std::string, Given, std::less<>> values_;  ///< By the parameter's own name.
};

}  // namespace peregrine::generation
