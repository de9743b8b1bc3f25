// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "api/service.h"
#include "cli/commands.h"
#include "configuration/model_options.h"
#include "core/error.h"
#include "core/log.h"
#include "http/server.h"
#include "serving/metrics.h"
#include "serving/models.h"

namespace peregrine::cli {
namespace {

using core::ErrorKind;
using core::fail;
namespace fs = std::filesystem;

struct ServeFlags {
  std::string model_dir;
  std::string model_store;
  std::string model_name;
  std::vector<std::string> options;
  std::string device;
  std::string isa;
  int threads = 0;
  http::ServerOptions http;
  bool wait_model_loading = true;
  int drain_seconds = 60;
  std::vector<std::string> engine_command;

  /// `options`, and behind them those that have flags of their own, which win.
  std::vector<std::string> all_options() const {
    std::vector<std::string> out = options;
    if (!device.empty()) out.push_back("device=" + device);
    if (!isa.empty()) out.push_back("isa=" + isa);
    if (threads > 0) out.push_back(fmt::format("cpu_threads={}", threads));
    return out;
  }
};

/// A directory's name with everything but letters, digits and _ . - made '_', as LMI names models.
std::string derived_name(const fs::path& directory) {
  const fs::path absolute = fs::absolute(directory).lexically_normal();
  std::string name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-') c = '_';
  }
  return name.empty() ? "model" : name;
}

/// A name is a part of paths and of log lines.
void check_name(const std::string& name) {
  const bool good =
      !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-' || c == ':';
      });
  if (good) return;
  fail(ErrorKind::kInvalidArgument,
       "--model-name must be 1 to 128 of the characters A-Z a-z 0-9 _ . - : and is {}", core::quoted(name));
}

serving::ModelSource read_source(const fs::path& directory, std::string name, const ServeFlags& flags) {
  check_name(name);
  if (!fs::is_directory(directory)) fail(ErrorKind::kNotFound, "{} is not a directory", directory.string());
  auto options = configuration::read_model_options(directory, flags.all_options());
  return {std::move(name), directory, std::move(options)};
}

/// The model directories of a store, sorted by name; where it holds none but is a model itself, it alone.
std::vector<fs::path> store_models(const fs::path& store) {
  if (!fs::is_directory(store))
    fail(ErrorKind::kNotFound, "--model-store {} is not a directory", store.string());
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(store)) {
    const auto holds = [&](const char* file) { return fs::exists(entry.path() / file); };
    if (entry.is_directory() && (holds("config.json") || holds("serving.properties")))
      out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  if (out.empty() && fs::exists(store / "config.json")) out.push_back(store);
  if (out.empty()) {
    fail(ErrorKind::kNotFound,
         "--model-store {} holds no model (a directory with config.json or "
         "serving.properties)",
         store.string());
  }
  return out;
}

std::vector<serving::ModelSource> read_sources(const ServeFlags& flags) {
  if (flags.model_dir.empty() == flags.model_store.empty()) {
    fail(ErrorKind::kInvalidArgument, "one of a model directory and --model-store is needed");
  }
  std::vector<serving::ModelSource> sources;
  if (!flags.model_dir.empty()) {
    const auto name = flags.model_name.empty() ? derived_name(flags.model_dir) : flags.model_name;
    sources.push_back(read_source(flags.model_dir, name, flags));
    return sources;
  }
  for (const fs::path& directory : store_models(flags.model_store)) {
    sources.push_back(read_source(directory, derived_name(directory), flags));
  }
  return sources;
}

/// Waits for SIGINT and SIGTERM, which are blocked in every thread from its construction on.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
  }

  /// Whether one comes within `time`.
  bool wait_for(std::chrono::milliseconds time) const {
    const timespec limit = {time.count() / 1000, (time.count() % 1000) * 1'000'000};
    return sigtimedwait(&set_, nullptr, &limit) > 0;
  }

 private:
  sigset_t set_;
};

/// A second signal, while the first one's work goes on, ends the process at once.
class ImpatientStop {
 public:
  explicit ImpatientStop(const StopSignals& signals)
      : thread_([this, &signals] {
          while (!done_) {
            if (!signals.wait_for(std::chrono::milliseconds(100))) continue;
            spdlog::warn("stopped again: not waiting for requests under way");
            spdlog::shutdown();
            _exit(1);
          }
        }) {}
  ~ImpatientStop() {
    done_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

/// Waits until all models have been ready (true), one failed (false), or a stop signal came (nothing).
std::optional<bool> wait_until_loaded(const serving::Models& models, const StopSignals& signals) {
  do {
    bool loading = false;
    for (const serving::Model* model : models.all()) {
      const serving::ModelState state = model->status().state;
      if (state == serving::ModelState::kFailed) return false;
      loading = loading || state == serving::ModelState::kLoading;
    }
    if (!loading) return true;
  } while (!signals.wait_for(std::chrono::milliseconds(20)));
  return std::nullopt;
}

void log_failures(const serving::Models& models) {
  for (const serving::Model* model : models.all()) {
    const auto status = model->status();
    if (status.state == serving::ModelState::kFailed) {
      std::fprintf(stderr, "peregrine: model %s failed to load: %s\n", model->name().c_str(),
                   status.error.c_str());
    }
  }
}

void print_welcome(const ServeFlags& flags, const serving::Models& models, std::uint16_t port) {
  std::string names;
  for (const serving::Model* model : models.all()) names += (names.empty() ? "" : ", ") + model->name();
  const bool everywhere = flags.http.host == "0.0.0.0" || flags.http.host == "::";
  const bool ipv6 = flags.http.host.find(':') != std::string::npos;
  const std::string host = everywhere ? "localhost" : ipv6 ? "[" + flags.http.host + "]" : flags.http.host;
  const std::string path =
      models.all().size() == 1 ? "/invocations" : "/predictions/" + models.all().front()->name();
  fmt::print(stderr,
             "Serving {} on http://{}:{}\n"
             "Try it:\n"
             "  curl -s http://{}:{}{} -H 'Content-Type: application/json' \\\n"
             "    -d '{}'\n",
             names, host, port, host, port, path,
             models.all().front()->limits().generates()
                 ? R"({"inputs": "ROMEO:", "parameters": {"do_sample": true, "max_new_tokens": 100}})"
                 : R"({"inputs": "What is the capital of France?"})");
}

/// Serves until a stop signal, then lets what runs finish. Returns the exit code.
int serve_until_stopped(const ServeFlags& flags, serving::Models& models, http::Server& server,
                        const StopSignals& signals) {
  while (!signals.wait_for(std::chrono::seconds(3600))) {
  }
  spdlog::info("stopping: no new requests; waiting up to {} s for those under way", flags.drain_seconds);
  const ImpatientStop impatient(signals);
  const bool finished = models.drain(std::chrono::seconds(flags.drain_seconds));
  // What is finished has still to be written to its clients.
  server.drain(std::chrono::seconds(5));
  if (!finished) spdlog::warn("stopped with requests unfinished after {} s", flags.drain_seconds);
  return finished ? 0 : 1;
}

/// This program, by the name under which people will look for its hosts; where its file was replaced or
/// removed since, by a link that still works.
std::string own_program() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  return !error && fs::exists(path) ? path.string() : "/proc/self/exe";
}

int serve(const ServeFlags& flags) {
  const StopSignals signals;
  serving::Metrics metrics;
  const std::vector<std::string> command =
      flags.engine_command.empty() ? std::vector<std::string>{own_program(), "engine"} : flags.engine_command;
  serving::Models models(read_sources(flags), {command}, metrics);
  const auto service = api::create_service(models, metrics);
  http::Server server(flags.http, *service);

  models.start();
  if (!flags.wait_model_loading) server.start();
  const auto loaded = wait_until_loaded(models, signals);
  if (!loaded) return 0;
  if (!*loaded) {
    log_failures(models);
    return 1;
  }
  if (flags.wait_model_loading) server.start();
  print_welcome(flags, models, server.port());
  return serve_until_stopped(flags, models, server, signals);
}

void add_http_flags(CLI::App& command, ServeFlags& flags) {
  command.add_option("--port", flags.http.port, "Port to listen on; 0 is any free one")
      ->capture_default_str();
  command.add_option("--host", flags.http.host, "Address to listen on")->capture_default_str();
  command.add_option("--http-threads", flags.http.threads, "Threads that read and write for all connections")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command.add_option("--max-request-size", flags.http.max_request_size, "Largest request body in bytes")
      ->capture_default_str();
  command.add_option("--max-connections", flags.http.max_connections, "Connections open at once")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
}

}  // namespace

void add_serve(CLI::App& app) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve models over HTTP");
  command->add_option("model_dir", flags->model_dir, "Hugging Face model directory");
  command->add_option("--model-store", flags->model_store, "Directory of model directories, all served");
  command->add_option("--model-name", flags->model_name, "Name of the model (default: its directory's)");
  command
      ->add_option("--option", flags->options,
                   "KEY=VALUE: an option as in serving.properties, which it overrides, for all models")
      ->allow_extra_args(false);
  command->add_option("--device", flags->device, "cpu (default) or reference");
  command->add_option("--isa", flags->isa,
                      "Forces an instruction set: plain, avx2, avx512, avx512_vnni or avx512_bf16");
  command
      ->add_option("--threads", flags->threads, "Compute threads of each model (default: one for each core)")
      ->check(CLI::Range(1, 1024));
  add_http_flags(*command, *flags);
  command
      ->add_option("--wait-model-loading", flags->wait_model_loading,
                   "Open the port when the models are loaded (true, as LMI does), or at once (false)")
      ->capture_default_str();
  command
      ->add_option("--drain-timeout", flags->drain_seconds,
                   "Seconds that requests under way get to finish after SIGTERM")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  command
      ->add_option(
          "--engine-command", flags->engine_command,
          "Program (and arguments, each behind a flag of its own) to run as engine host instead of this one")
      ->allow_extra_args(false);
  command->callback([flags] {
    const int code = serve(*flags);
    if (code != 0) throw CLI::RuntimeError(code);
  });
}

}  // namespace peregrine::cli
