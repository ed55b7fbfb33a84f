// SPDX-License-Identifier: Apache-2.0
#include "agent/app/agent_report.h"

#include "agent/app/bgp_report.h"
#include "agent/app/dataplane_report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace manx::app {

std::vector<std::string> AgentReport::not_ready() const {
    std::vector<std::string> reasons;
    if (!parts_.enforcer.complete()) {
        reasons.emplace_back("the datastore's first snapshot is not complete");
    }
    if (!parts_.enforcer.trouble().empty()) {
        reasons.push_back("policy tables: " + parts_.enforcer.trouble());
    }
    if (!parts_.masquerade_trouble.empty()) {
        reasons.push_back(parts_.masquerade_trouble);
    }
    if (!parts_.has_node) {
        reasons.push_back("no Node object " + parts_.config.node_name);
    }
    bool attached = false;
    for (const auto& [ifindex, uplink] : parts_.links.uplinks()) {
        attached = attached || uplink.attached;
        if (!uplink.attached) {
            reasons.push_back(fmt::format("uplink {}: {}", uplink.link.name, uplink.trouble));
        }
    }
    if (!attached) {
        reasons.emplace_back("no uplink");
    }
    if (parts_.bgp != nullptr && !parts_.bgp->status().running) {
        reasons.emplace_back("BIRD is not running");
    }
    return reasons;
}

nlohmann::json AgentReport::status() const {
    auto reasons = not_ready();
    return {
        {"node", parts_.config.node_name},
        {"version", MANX_VERSION},
        {"ready", reasons.empty()},
        {"notReady", reasons},
        {"datastore",
         {{"path", parts_.config.datastore_path},
          {"synced", parts_.syncer.synced()},
          {"updates", parts_.syncer.updates()},
          {"applied", parts_.syncer.applied()},
          {"locked", parts_.locked},
          {"trouble", parts_.syncer.trouble()}}},
        {"settings", parts_.settings},
        {"invalidObjects", invalid_objects(parts_.syncer.invalid(), parts_.problems)},
        {"notEnforced", parts_.unenforced.to_json()},
        {"uplinks", uplinks()},
        {"endpoints", endpoints()},
        {"bgp", parts_.bgp != nullptr ? to_json(parts_.bgp->status()) : nlohmann::json(nullptr)},
        {"packets", DataplaneReport(parts_.loader).totals()},
        {"servicesOfThisHost", parts_.judges_to_host ? "judged" : "dropped unless unrestricted"},
        {"tcx", parts_.loader.uses_tcx()}};
}

nlohmann::json AgentReport::uplinks() const {
    nlohmann::json out = nlohmann::json::array();
    for (const auto& [ifindex, uplink] : parts_.links.uplinks()) {
        out.push_back({{"device", uplink.link.name},
                       {"mtu", uplink.link.mtu},
                       {"attached", uplink.attached},
                       {"trouble", uplink.trouble}});
    }
    return out;
}

nlohmann::json AgentReport::endpoints() const {
    nlohmann::json out = nlohmann::json::array();
    for (const auto& [device, endpoint] : parts_.enforcer.endpoints()) {
        nlohmann::json addresses = nlohmann::json::array();
        for (const auto& address : endpoint.addresses) {
            addresses.push_back(address.text());
        }
        out.push_back({{"device", device},
                       {"namespace", endpoint.ns},
                       {"pod", endpoint.pod},
                       {"addresses", std::move(addresses)}});
    }
    return out;
}

void AgentReport::collect(metrics::Registry::Families& out) const {
    using metrics::gauge;
    gauge(out, "felix_active_local_endpoints", "Workloads of this node.",
          static_cast<double>(parts_.enforcer.endpoints().size()));
    gauge(out, "felix_resync_state", "0: waiting for the datastore, 1: first snapshot, 2: in sync.",
          !parts_.syncer.trouble().empty() ? 0
          : parts_.syncer.synced()         ? 2
                                           : 1);
    auto stats = parts_.enforcer.calculator().stats();
    gauge(out, "felix_active_local_policies", "Policies that apply to a workload of this node.",
          static_cast<double>(stats.active_policies));
    gauge(out, "felix_cluster_num_policies", "Policies of the cluster.",
          static_cast<double>(stats.policies));
    gauge(out, "manx_policy_sets", "Compiled policy sets.", static_cast<double>(stats.sets));
    gauge(out, "manx_policy_classes", "Classes of addresses.", static_cast<double>(stats.classes));
    gauge(out, "manx_invalid_objects", "Objects that are not in force as they stand.",
          static_cast<double>(invalid_objects(parts_.syncer.invalid(), parts_.problems).size()));
    gauge(out, "manx_not_enforced_objects",
          "Objects that ask for something that is not done on this node.",
          static_cast<double>(parts_.unenforced.size()));
    gauge(out, "manx_services_of_this_host_judged",
          "1: policy judges pods' packets to services of their own node; 0: what policy might "
          "deny is dropped.",
          parts_.judges_to_host ? 1 : 0);
    gauge(out, "manx_ready", "1 when this node is ready.", not_ready().empty() ? 1 : 0);
    metrics::counter(out, "manx_datastore_updates_total", "Objects received.",
                     static_cast<double>(parts_.syncer.updates()));
    metrics::counter(out, "manx_ipam_collected_total",
                     "Addresses, blocks, handles and affinities that were brought back.",
                     static_cast<double>(parts_.collector.collected()));
    if (parts_.bgp != nullptr) {
        collect_bgp(parts_.bgp->status(), out);
    }
}

} // namespace manx::app
