// SPDX-License-Identifier: Apache-2.0
#include "tests/cni/plugin_runner.h"

#include "base/unique_fd.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <spawn.h>
#include <stdexcept>
#include <unistd.h>

namespace manx::test {

RunningPlugin::RunningPlugin(const PluginCall& call) {
    const std::string input = call.conf.dump();
    UniqueFd in(memfd_create("conf", MFD_CLOEXEC));
    UniqueFd out(memfd_create("answer", MFD_CLOEXEC));
    if (!in || !out || write(in.get(), input.data(), input.size()) < 0) {
        throw std::runtime_error("no memory file for a plugin");
    }
    lseek(in.get(), 0, SEEK_SET);
    std::vector<std::string> environment = {
        "CNI_COMMAND=" + call.command,  "CNI_CONTAINERID=" + call.container,
        "CNI_IFNAME=" + call.interface, "CNI_ARGS=" + call.args,
        "CNI_PATH=/usr/lib/cni",        "PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    if (!call.netns.empty()) {
        environment.push_back("CNI_NETNS=" + call.netns);
    }
    std::vector<char*> pointers;
    for (auto& entry : environment) {
        pointers.push_back(entry.data());
    }
    pointers.push_back(nullptr);
    std::string binary = call.binary;
    std::array<char*, 2> arguments{binary.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out.get(), STDOUT_FILENO);
    const int rc =
        posix_spawn(&pid_, binary.c_str(), &actions, nullptr, arguments.data(), pointers.data());
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        throw std::runtime_error("cannot start " + binary);
    }
    output_ = out.release();
}

RunningPlugin::RunningPlugin(RunningPlugin&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), output_(std::exchange(other.output_, -1)) {
}

RunningPlugin::~RunningPlugin() {
    if (pid_ > 0) {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    const UniqueFd closer(output_);
}

PluginResult RunningPlugin::wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    PluginResult result;
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    std::array<char, 65536> text{};
    const ssize_t n = pread(output_, text.data(), text.size(), 0);
    result.text.assign(text.data(), static_cast<size_t>(std::max<ssize_t>(n, 0)));
    result.json = nlohmann::json::parse(result.text, nullptr, false);
    return result;
}

PluginResult run_plugin(const PluginCall& call) {
    return RunningPlugin(call).wait();
}

PluginResult run_chain(PluginCall call,
                       const std::vector<std::pair<std::string, nlohmann::json>>& plugins,
                       const nlohmann::json& cached_result) {
    auto order = plugins;
    if (call.command == "DEL") {
        std::reverse(order.begin(), order.end());
    }
    nlohmann::json previous = cached_result;
    PluginResult result;
    for (const auto& [binary, conf] : order) {
        call.binary = binary;
        call.conf = conf;
        if (!previous.is_null()) {
            call.conf["prevResult"] = previous;
        }
        result = run_plugin(call);
        if (!result.ok()) {
            return result;
        }
        if (call.command == "ADD") {
            previous = result.json;
        }
    }
    return result;
}

} // namespace manx::test
