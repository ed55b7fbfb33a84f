// SPDX-License-Identifier: Apache-2.0
// A container runtime in small: runs CNI plugin binaries as processes, in the calling thread's
// network namespace, and hands back what they printed.
#pragma once

#include "base/result.h"

#include <nlohmann/json.hpp>

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace manx::test {

struct PluginCall {
    std::string binary;
    std::string command; // ADD, ...
    std::string container;
    std::string netns; // path, may be empty
    std::string interface = "eth0";
    std::string args; // CNI_ARGS
    nlohmann::json conf;
};

struct PluginResult {
    int status = -1; // exit status
    std::string text;
    nlohmann::json json; // discarded where the text is none

    [[nodiscard]] bool ok() const { return status == 0; }

    [[nodiscard]] int code() const { return json.is_object() ? json.value("code", 0) : 0; }
};

class RunningPlugin {
public:
    explicit RunningPlugin(const PluginCall& call);
    RunningPlugin(RunningPlugin&& other) noexcept;
    RunningPlugin& operator=(RunningPlugin&&) = delete;
    RunningPlugin(const RunningPlugin&) = delete;
    RunningPlugin& operator=(const RunningPlugin&) = delete;
    ~RunningPlugin();

    PluginResult wait();

    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    pid_t pid_ = -1;
    int output_ = -1;
};

PluginResult run_plugin(const PluginCall& call);

// Plugins of a conflist as libcni runs them: forwards for ADD (with prevResult), backwards for DEL.
PluginResult run_chain(PluginCall call,
                       const std::vector<std::pair<std::string, nlohmann::json>>& plugins,
                       const nlohmann::json& cached_result = nullptr);

} // namespace manx::test
