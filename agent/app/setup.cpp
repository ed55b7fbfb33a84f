// SPDX-License-Identifier: Apache-2.0
#include "agent/app/setup.h"

#include "loader/probe.h"

#include <fmt/format.h>

#include <sys/file.h>

#include <fcntl.h>
#include <filesystem>

namespace manx::app {

Result<void> make_folder(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) {
        return fail_errno("make folder " + path, error.value());
    }
    return {};
}

Result<UniqueFd> lock_node(const AgentConfig& config) {
    const std::string path = config.run_dir + "/agent.lock";
    UniqueFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock) {
        return fail_errno("open " + path);
    }
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(ErrorKind::ConfigReality,
                    path + ": another agent of this node runs, and holds it");
    }
    return lock;
}

Result<void> check_kernel() {
    TRY_ASSIGN(auto probe, loader::probe());
    if (auto missing = probe.missing(); !missing.empty()) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("the kernel lacks: {}; see manx-agent --check", missing));
    }
    return {};
}

loader::LoadOptions load_options(const AgentConfig& config) {
    loader::LoadOptions options;
    options.sizes.flows4 = config.flow_table_size;
    options.sizes.flows6 = config.flow_table_size / 2;
    options.force_clsact = config.attach_clsact;
    options.use_netfilter = config.use_netfilter;
    return options;
}

bgp::BirdPaths bird_paths(const AgentConfig& config) {
    auto paths = bgp::BirdPaths::in(config.run_dir, config.state_dir);
    paths.binary = config.bird_path;
    paths.control = config.bird_control_path;
    return paths;
}

} // namespace manx::app
