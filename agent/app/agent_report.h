// SPDX-License-Identifier: Apache-2.0
// The agent as people and monitoring see it: why its node is not ready, its status, its metrics.
// Made of the parts when somebody asks; holds nothing of its own.
#pragma once

#include "agent/app/collector.h"
#include "agent/app/config.h"
#include "agent/app/enforcer.h"
#include "agent/app/object_problems.h"
#include "agent/app/syncer.h"
#include "agent/app/unenforced.h"
#include "agent/bgp/manager.h"
#include "agent/dataplane/host_links.h"
#include "agent/metrics/registry.h"
#include "loader/loader.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace manx::app {

// What the report reads; all of it outlives the report.
struct AgentParts {
    const AgentConfig& config;
    const loader::Loader& loader;
    const Enforcer& enforcer;
    const dataplane::HostLinks& links;
    const Syncer& syncer;
    const Collector& collector;
    const bgp::BgpManager* bgp = nullptr; // none: BIRD is not ours
    const ObjectTexts& problems;
    const Unenforced& unenforced;
    const std::string& masquerade_trouble;
    std::string locked;   // why the datastore is; empty: it is not
    std::string settings; // in force
    bool has_node = false;
    bool judges_to_host = false;
};

class AgentReport {
public:
    explicit AgentReport(AgentParts parts) : parts_(std::move(parts)) {}

    // Reasons of this node only; none: it is ready.
    [[nodiscard]] std::vector<std::string> not_ready() const;
    // What `manxctl status` shows.
    [[nodiscard]] nlohmann::json status() const;
    void collect(metrics::Registry::Families& out) const;

private:
    [[nodiscard]] nlohmann::json uplinks() const;
    [[nodiscard]] nlohmann::json endpoints() const;

    AgentParts parts_;
};

} // namespace manx::app
