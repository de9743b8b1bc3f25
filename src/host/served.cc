// SPDX-License-Identifier: Apache-2.0
#include "host/served.h"

#include <utility>

#include "core/error.h"

namespace peregrine::host {
namespace {

using configuration::Task;

/// Throws where the model cannot do what option.task asks for.
void check_task(Task task, const model::LoadedModel& model) {
  const auto fail_task = [&](std::string_view name, std::string_view needed) {
    const auto& info = model.directory.info();
    const std::string architecture = info.architecture.empty() ? info.model_type : info.architecture;
    if (model.decoder) {
      core::fail(core::ErrorKind::kUnsupported, "option.task={} needs {}; {} generates text", name, needed,
                 architecture);
    }
    core::fail(core::ErrorKind::kUnsupported,
               "option.task={} needs {}; {} is an encoder with {} class labels", name, needed, architecture,
               model.encoder->config().head.labels.size());
  };
  const bool generates = model.decoder != nullptr;
  const std::size_t labels = generates ? 0 : model.encoder->config().head.labels.size();
  if (task == Task::kGenerate && !generates) fail_task("text-generation", "a model that generates");
  if (task == Task::kEmbed && generates) fail_task("text-embedding", "an encoder");
  if (task == Task::kClassify && labels == 0) fail_task("text-classification", "a model with class labels");
  if (task == Task::kRerank && labels != 1) fail_task("rerank", "a classifier with one label");
}

}  // namespace

std::unique_ptr<Served> serve(std::string name, Session session, const configuration::ModelOptions& options,
                              channel::HostLink& link) {
  check_task(options.task, session.model);
  const bool generates = session.model.decoder != nullptr;
  return (generates ? serve_decoder : serve_encoder)(std::move(name), std::move(session),
                                                     engine_options(options), link);
}

}  // namespace peregrine::host
