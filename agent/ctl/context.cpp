// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/context.h"

#include "agent/datastore/sqlite_store.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <ostream>
#include <unistd.h>

namespace manx::ctl {

namespace {

constexpr const char* kDefaultStore = "/var/lib/manx/store.db"; // the agent's default too

Result<std::string> path_in_config(const std::string& config_path) {
    if (access(config_path.c_str(), R_OK) != 0) {
        return kDefaultStore;
    }
    try {
        YAML::Node config = YAML::LoadFile(config_path);
        if (config.IsMap() && config["datastore"].IsMap() && config["datastore"]["path"]) {
            return config["datastore"]["path"].as<std::string>();
        }
        return kDefaultStore;
    } catch (const YAML::Exception& e) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("{}: {}", config_path, e.what()));
    }
}

} // namespace

Context::Context(std::istream& input, std::ostream& output, std::ostream& errors)
    : in(input), out(output), err(errors) {
}

Context::~Context() = default;

Result<datastore::Store*> Context::store() {
    if (!store_) {
        std::string path = datastore_path;
        const char* env = std::getenv("MANX_DATASTORE");
        if (path.empty() && env != nullptr) {
            path = env;
        }
        if (path.empty()) {
            TRY_ASSIGN(path, path_in_config(config_path));
        }
        TRY_ASSIGN(store_, datastore::open_sqlite(path));
    }
    return store_.get();
}

void Context::finish(const Result<void>& outcome) {
    if (!outcome) {
        err << outcome.error().text() << "\n";
        exit_code_ = 1;
    }
}

} // namespace manx::ctl
