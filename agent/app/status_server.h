// SPDX-License-Identifier: Apache-2.0
// What the agent answers to people and probes: GET /status and /rules as JSON on
// <runDir>/agent.sock (manxctl status, policy), /liveness and /readiness on the health port,
// /metrics on the metrics port.
//
// Threading: the loop's thread.
#pragma once

#include "agent/app/config.h"
#include "agent/metrics/http_server.h"
#include "agent/metrics/registry.h"
#include "base/event_loop.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace manx::app {

class StatusServer {
public:
    // ConfigReality: somebody listens there already.
    static Result<std::unique_ptr<StatusServer>> create(EventLoop& loop, const AgentConfig& config);

    // Until this was called: live, and not ready.
    struct Sources {
        std::function<nlohmann::json()> status;
        std::function<std::vector<std::string>()> not_ready; // reasons; empty: ready
        std::function<nlohmann::json()> rules;               // of this node, with their counters
    };

    void serve(Sources sources) { sources_ = std::move(sources); }

    metrics::Registry& registry() { return registry_; }

private:
    StatusServer() = default;
    [[nodiscard]] metrics::HttpResponse readiness() const;

    Sources sources_;
    metrics::Registry registry_;
    std::vector<std::unique_ptr<metrics::HttpServer>> servers_;
};

} // namespace manx::app
