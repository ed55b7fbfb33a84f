// SPDX-License-Identifier: Apache-2.0
#include "agent/api/not_enforced.h"

#include <fmt/format.h>

namespace manx::api {

namespace {

void add_annotation(const Pod& pod, const char* key, const char* meaning,
                    std::vector<NotEnforced>& out) {
    if (pod.meta.annotations.contains(key)) {
        out.push_back({fmt::format("metadata.annotations[{}]", key), meaning});
    }
}

} // namespace

std::vector<NotEnforced> not_enforced(const Policy& policy) {
    constexpr const char* kNothing =
        "is for host endpoints only, which are not enforced: the policy has no effect";
    std::vector<NotEnforced> out;
    if (policy.staged) {
        return out;
    }
    if (policy.do_not_track) {
        out.push_back({"spec.doNotTrack", kNothing});
    }
    if (policy.pre_dnat) {
        out.push_back({"spec.preDNAT", kNothing});
    }
    if (policy.apply_on_forward && !policy.host_only()) {
        out.push_back({"spec.applyOnForward",
                       "the policy is in force for workloads, not for what this node forwards "
                       "through host endpoints"});
    }
    return out;
}

std::vector<NotEnforced> not_enforced(const FelixConfiguration& config) {
    std::vector<NotEnforced> out;
    if (config.workload_source_spoofing == "Any") {
        out.push_back({"spec.workloadSourceSpoofing",
                       "Any has no effect: what a workload sends from an address that is not its "
                       "own is dropped"});
    }
    if (config.floating_ips == "Enabled") {
        out.push_back({"spec.floatingIPs",
                       "Enabled has no effect: no workload is reached by a floating address"});
    }
    return out;
}

std::vector<NotEnforced> not_enforced(const HostEndpoint& endpoint, const std::string& node) {
    if (endpoint.node != node) {
        return {};
    }
    return {{"spec",
             "no policy and no profile is enforced on this node's own interfaces, they stay "
             "open; its labels, addresses and ports only serve rules of other endpoints"}};
}

std::vector<NotEnforced> not_enforced(const Pod& pod, const std::string& node) {
    std::vector<NotEnforced> out;
    if (pod.node_name != node || pod.host_network || pod.finished) {
        return out;
    }
    add_annotation(pod, kAllowedSourcesAnnotation,
                   "what the pod sends from these addresses is dropped, unless they are its own",
                   out);
    add_annotation(pod, kFloatingIpsAnnotation, "the pod is not reached by these addresses", out);
    return out;
}

} // namespace manx::api
