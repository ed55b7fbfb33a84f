// SPDX-License-Identifier: Apache-2.0
// What this node's dataplane is set to, key by key: by the agent's own configuration where it says,
// else by the FelixConfiguration objects (node.<node>, the one whose nodeSelector fits, default),
// else by default. Pure; the agent follows the objects and applies what current() says.
//
// Threading: the loop's thread.
#pragma once

#include "agent/api/felix_configuration.h"
#include "agent/api/not_enforced.h"
#include "agent/app/config.h"
#include "maps/abi/flow.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace manx::app {

struct Settings {
    // Calico's default is Drop, and its manifests say ACCEPT; here nobody has to say it.
    std::string default_endpoint_to_host_action = "Accept";
    bool allow_vxlan_from_workloads = false;
    bool allow_ipip_from_workloads = false;
    uint16_t vxlan_port = 4789;
    std::string log_level = "info";

    bool operator==(const Settings&) const = default;
    // "key=value ...", for people.
    [[nodiscard]] std::string text() const;
};

// The programs' configuration with these settings; what is not theirs stays.
manx_config with_settings(manx_config config, const Settings& settings, bool cut_flows);

class SettingsSource {
public:
    SettingsSource(std::string node_name, SharedKeys own)
        : node_name_(std::move(node_name)), own_(std::move(own)) {}

    // Fields that cannot be read stay as they were, and are returned as text.
    std::vector<std::string> upsert(api::FelixConfiguration object);
    void remove(const std::string& name);

    // Of this node, for nodeSelector.
    void set_node_labels(api::StringMap labels) { labels_ = std::move(labels); }

    [[nodiscard]] Settings current() const;

    // Of the objects that speak for this node: what they ask for and nobody does; by object's name,
    // empty where that is nothing, or another node's.
    [[nodiscard]] std::map<std::string, std::vector<api::NotEnforced>> not_enforced() const;

private:
    std::string node_name_;
    SharedKeys own_;
    api::StringMap labels_;
    std::vector<api::FelixConfiguration> objects_;
};

} // namespace manx::app
