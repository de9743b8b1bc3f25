// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace peregrine::host {

/// Runs this process as an engine host over `channel_fd`, a connected stream socket, until the server closes
/// it or says Drain, or until the engine fails. Returns the exit code. The process is ended in the middle of
/// whatever it does when the server goes. `version` is the program's, for logs.
int run(int channel_fd, const char* version);

}  // namespace peregrine::host
