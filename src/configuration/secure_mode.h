// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

namespace peregrine::configuration {

struct Setting;

/// What SageMaker's secure mode forbids a model (specification 8.7). Where it is off, nothing is.
///
/// Only files of the model itself are looked at: others are not read, so SAGEMAKER_UNTRUSTED_CHANNELS changes
/// nothing, and every model counts as untrusted.
struct SecureMode {
  bool no_requirements = false;    ///< DISALLOW_REQUIREMENTS_TXT
  bool no_pickles = false;         ///< DISALLOW_PICKLE_FILES
  bool no_remote_code = false;     ///< DISALLOW_TRUST_REMOTE_CODE
  bool no_scripts = false;         ///< DISALLOW_CUSTOM_INFERENCE_SCRIPTS
  bool no_chat_templates = false;  ///< DISALLOW_CHAT_TEMPLATE
};

/// Reads the environment: SAGEMAKER_SECURE_MODE turns it on, SAGEMAKER_SECURITY_CONTROLS lists what is
/// forbidden. Throws Error(kInvalidArgument) where the mode is neither true nor false, or where it is on and
/// the list is missing or has a name that is not known.
SecureMode read_secure_mode();

/// Throws Error(kInvalidArgument) where the mode forbids a setting of the model's.
void check_setting(const SecureMode& mode, const Setting& setting);

/// Throws Error(kInvalidArgument) where the model directory has a file that the mode forbids. Pickled weights
/// are not looked for here: who opens the checkpoint refuses them, where it has no safetensors.
void check_files(const SecureMode& mode, const std::filesystem::path& directory);

}  // namespace peregrine::configuration
