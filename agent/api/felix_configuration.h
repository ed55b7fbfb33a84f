// SPDX-License-Identifier: Apache-2.0
// FelixConfiguration: the fields that this agent acts on. Other fields are left alone.
#pragma once

#include "agent/api/meta.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace manx::api {

// Absent fields say nothing: a more general object, or the agent's own configuration, does.
// An annotation config.projectcalico.org/<FieldName> wins over the field. Words are spelled as
// here, however the object has them. A field that cannot be read is absent, and one of the
// problems; the others hold.
struct FelixConfiguration {
    struct Problem {
        std::string field;
        std::string text; // names the field and what was expected
    };

    ObjectMeta meta;
    std::vector<Problem> problems;
    std::string node_selector; // of objects that are neither default nor node.<node>
    std::optional<std::string> default_endpoint_to_host_action; // Drop, Accept, Return
    std::optional<std::string> log_severity_screen;
    std::optional<std::string> bpf_data_iface_pattern;
    std::optional<std::string> nat_port_range; // "first:last"
    std::optional<std::string> nat_outgoing_address;
    std::optional<std::string> nat_outgoing_exclusions; // IPPoolsOnly, IPPoolsAndHostIPs
    std::optional<bool> allow_vxlan_from_workloads;
    std::optional<bool> allow_ipip_from_workloads;
    std::optional<std::string> workload_source_spoofing; // Disabled, Any: see not_enforced.h
    std::optional<std::string> floating_ips;             // Disabled, Enabled: see not_enforced.h
    std::optional<uint16_t> vxlan_port;
    std::optional<uint32_t> vxlan_vni;
    std::optional<uint32_t> vxlan_mtu;
    std::optional<uint32_t> ipip_mtu;
    std::optional<uint32_t> device_route_protocol;
    std::optional<uint32_t> ipv4_normal_route_priority;
    std::optional<uint32_t> ipv6_normal_route_priority;
    std::optional<bool> prometheus_metrics_enabled;
    std::optional<uint16_t> prometheus_metrics_port;
    std::optional<bool> health_enabled;
    std::optional<uint16_t> health_port;

    static Result<FelixConfiguration> from_json(const nlohmann::json& object);
    // The first problem, if there is one.
    [[nodiscard]] Result<void> validate() const;
    // Fields that cannot be read stay as they were in the object's last state. Without one, those
    // that open traffic are closed: nobody knows what they were to say.
    void keep_unread(const FelixConfiguration* last);
};

// Whether an object may say something on a node: default, node.<node>, or by its nodeSelector.
bool speaks_for(const FelixConfiguration& config, const std::string& node, const StringMap& labels);

// What holds on a node: field by field node.<node>, then the one selector-scoped object that
// matches its labels (the oldest, then by name), then default.
FelixConfiguration effective_felix_configuration(std::span<const FelixConfiguration> all,
                                                 const std::string& node, const StringMap& labels);

} // namespace manx::api
