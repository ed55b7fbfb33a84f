// SPDX-License-Identifier: Apache-2.0
#include "agent/app/status_server.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace manx::app {

using metrics::HttpResponse;
using metrics::HttpServer;

Result<std::unique_ptr<StatusServer>> StatusServer::create(EventLoop& loop,
                                                           const AgentConfig& config) {
    std::unique_ptr<StatusServer> status(new StatusServer);
    auto* self = status.get();

    TRY_ASSIGN(auto socket, metrics::listen_unix(config.run_dir + "/agent.sock"));
    TRY_ASSIGN(auto local, HttpServer::create(loop, std::move(socket)));
    local->handle("/status", [self](const std::string&) {
        auto json =
            self->sources_.status ? self->sources_.status() : nlohmann::json{{"state", "starting"}};
        return HttpResponse{.content_type = "application/json", .body = json.dump(2) + "\n"};
    });
    local->handle("/rules", [self](const std::string&) {
        auto json = self->sources_.rules ? self->sources_.rules() : nlohmann::json::array();
        return HttpResponse{.content_type = "application/json", .body = json.dump() + "\n"};
    });
    status->servers_.push_back(std::move(local));

    if (config.health_port != 0) {
        TRY_ASSIGN(auto fd, metrics::listen_tcp(config.health_address, config.health_port));
        TRY_ASSIGN(auto health, HttpServer::create(loop, std::move(fd)));
        // That it answers is the proof: this runs on the loop that does everything.
        health->handle("/liveness",
                       [](const std::string&) { return HttpResponse{.body = "live\n"}; });
        health->handle("/readiness", [self](const std::string&) { return self->readiness(); });
        status->servers_.push_back(std::move(health));
    }
    if (config.metrics_port != 0) {
        TRY_ASSIGN(auto fd, metrics::listen_tcp(config.metrics_address, config.metrics_port));
        TRY_ASSIGN(auto metrics, HttpServer::create(loop, std::move(fd)));
        metrics->handle("/metrics", [self](const std::string&) {
            return HttpResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                .body = self->registry_.text()};
        });
        status->servers_.push_back(std::move(metrics));
    }
    return status;
}

HttpResponse StatusServer::readiness() const {
    auto reasons = sources_.not_ready ? sources_.not_ready() : std::vector<std::string>{"starting"};
    if (reasons.empty()) {
        return {.body = "ready\n"};
    }
    return {.status = 503, .body = fmt::format("not ready: {}\n", fmt::join(reasons, "; "))};
}

} // namespace manx::app
