// SPDX-License-Identifier: Apache-2.0
#include "agent/api/bgp.h"

#include "agent/api/fields.h"
#include "agent/api/node.h"
#include "agent/api/selector.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

namespace manx::api {

namespace {

using nlohmann::json;

// An AS number is a number, or text: "64512", "1.10".
void get_as(const Fields& fields, const char* name, std::optional<uint32_t>& out) {
    const json* value = fields.find(name);
    if (value == nullptr) {
        return;
    }
    if (!value->is_string()) {
        fields.get(name, out);
        return;
    }
    if (auto number = parse_as_number(value->get_ref<const std::string&>())) {
        out = *number;
    } else {
        fields.wrong(name, number.error().message);
    }
}

void get_as_list(const Fields& fields, const char* name, std::vector<uint32_t>& out) {
    const json* list = fields.find(name);
    if (list == nullptr) {
        return;
    }
    if (!list->is_array()) {
        fields.wrong(name, "expected a list of AS numbers");
        return;
    }
    for (const auto& item : *list) {
        auto number = parse_as_number(item.is_string() ? item.get<std::string>() : item.dump());
        if (!number) {
            fields.wrong(name, number.error().message);
            return;
        }
        out.push_back(*number);
    }
}

void get_cidrs(const Fields& fields, const char* name, std::vector<Cidr>& out) {
    fields.each(name, [&](const Fields& item) {
        item.require("cidr");
        item.get("cidr", out.emplace_back());
    });
}

void get_secret(const Fields& fields, const char* name, std::optional<SecretKeyRef>& out) {
    if (fields.at(name).has("secretKeyRef")) {
        Fields ref = fields.at(name).at("secretKeyRef");
        SecretKeyRef secret;
        ref.require("name");
        ref.require("key");
        ref.get("name", secret.name);
        ref.get("key", secret.key);
        out = std::move(secret);
    }
}

// "10.0.0.1", "10.0.0.1:1179", "fd00::1", "[fd00::1]:1179".
void get_peer_ip(const Fields& spec, BgpPeer& peer) {
    std::string text;
    spec.get("peerIP", text);
    if (text.empty()) {
        return;
    }
    std::string_view address = text;
    std::string_view port;
    if (text.front() == '[') {
        size_t end = text.find(']');
        if (end == std::string::npos) {
            spec.wrong("peerIP", fmt::format("\"{}\": expected [IPv6]:port", text));
            return;
        }
        address = std::string_view(text).substr(1, end - 1);
        port = std::string_view(text).substr(end + 1);
    } else if (std::ranges::count(text, ':') == 1) {
        address = std::string_view(text).substr(0, text.find(':'));
        port = std::string_view(text).substr(text.find(':'));
    }
    if (auto ip = IpAddress::parse(address)) {
        peer.peer_ip = *ip;
    } else {
        spec.wrong("peerIP", ip.error().message);
    }
    if (port.empty()) {
        return;
    }
    const char* end = port.data() + port.size();
    auto [at, ec] = std::from_chars(port.data() + 1, end, peer.peer_port);
    if (port.front() != ':' || ec != std::errc{} || at != end || peer.peer_port == 0) {
        spec.wrong("peerIP", fmt::format("\"{}\": expected a port from 1 to 65535", text));
    }
}

BgpFilterRule read_rule(const Fields& item) {
    BgpFilterRule rule;
    item.get("cidr", rule.cidr);
    item.get_enum("matchOperator", rule.match,
                  {{"Equal", PrefixMatch::Equal},
                   {"NotEqual", PrefixMatch::NotEqual},
                   {"In", PrefixMatch::In},
                   {"NotIn", PrefixMatch::NotIn}});
    item.at("prefixLength").get("min", rule.min_length);
    item.at("prefixLength").get("max", rule.max_length);
    item.get_enum("source", rule.from_remote_peers, {{"RemotePeers", true}});
    item.get("interface", rule.interface);
    bool internal = false;
    item.get_enum("peerType", internal, {{"iBGP", true}, {"eBGP", false}});
    if (item.has("peerType")) {
        rule.internal_peer = internal;
    }
    std::vector<std::string> communities;
    item.at("communities").get("values", communities);
    if (communities.size() > 1) {
        item.wrong("communities.values", "expected at most one");
    } else if (!communities.empty()) {
        rule.community = communities[0];
    }
    get_as_list(item, "asPathPrefix", rule.as_path_prefix);
    item.get("priority", rule.priority);
    item.require("action");
    item.get_enum("action", rule.accept, {{"Accept", true}, {"Reject", false}});
    item.each("operations", [&](const Fields& entry) {
        BgpFilterOperation operation;
        entry.at("addCommunity").get("value", operation.add_community);
        get_as_list(entry.at("prependASPath"), "prefix", operation.prepend_as_path);
        entry.at("setPriority").get("value", operation.set_priority);
        int set = (operation.add_community.empty() ? 0 : 1) +
                  (operation.prepend_as_path.empty() ? 0 : 1) + (operation.set_priority ? 1 : 0);
        if (set != 1) {
            item.wrong("operations",
                       "expected one of addCommunity, prependASPath, setPriority in each");
        }
        rule.operations.push_back(std::move(operation));
    });
    return rule;
}

Unexpected invalid(Kind kind, const ObjectMeta& meta, std::string_view field,
                   std::string_view what) {
    return fail(ErrorKind::ConfigInvalid,
                fmt::format("{} {}: spec.{}: {}", info(kind).name, meta.name, field, what));
}

} // namespace

Result<BgpConfiguration> BgpConfiguration::from_json(const json& object) {
    Problems problems{subject_of(Kind::BgpConfiguration, object), {}};
    BgpConfiguration config;
    config.meta = read_meta(Kind::BgpConfiguration, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("logSeverityScreen", config.log_severity);
    spec.get("nodeToNodeMeshEnabled", config.node_mesh);
    get_as(spec, "asNumber", config.as_number);
    spec.get("listenPort", config.listen_port);
    get_cidrs(spec, "serviceClusterIPs", config.service_cluster_ips);
    get_cidrs(spec, "serviceExternalIPs", config.service_external_ips);
    get_cidrs(spec, "serviceLoadBalancerIPs", config.service_load_balancer_ips);
    spec.get_enum("serviceLoadBalancerAggregation", config.load_balancer_aggregation,
                  {{"Enabled", true}, {"Disabled", false}});
    spec.each("communities", [&](const Fields& item) {
        BgpCommunity& community = config.communities.emplace_back();
        item.get("name", community.name);
        item.get("value", community.value);
    });
    spec.each("prefixAdvertisements", [&](const Fields& item) {
        BgpPrefixAdvertisement& advertisement = config.prefix_advertisements.emplace_back();
        item.require("cidr");
        item.get("cidr", advertisement.cidr);
        item.get("communities", advertisement.communities);
    });
    get_secret(spec, "nodeMeshPassword", config.mesh_password);
    spec.get("nodeMeshMaxRestartTime", config.mesh_max_restart_time);
    spec.get_enum("bindMode", config.bind_to_node_ip, {{"None", false}, {"NodeIP", true}});
    spec.get("ignoredInterfaces", config.ignored_interfaces);
    spec.get("localWorkloadPeeringIPV4", config.local_workload_ipv4);
    spec.get("localWorkloadPeeringIPV6", config.local_workload_ipv6);
    if (spec.has("programClusterRoutes")) {
        ClusterRoutes routes = ClusterRoutes::EnabledNoEncapOnly;
        spec.get_enum("programClusterRoutes", routes,
                      {{"Disabled", ClusterRoutes::Disabled},
                       {"EnabledNoEncapOnly", ClusterRoutes::EnabledNoEncapOnly},
                       {"EnabledIPIPOnly", ClusterRoutes::EnabledIpipOnly},
                       {"Enabled", ClusterRoutes::Enabled}});
        config.program_cluster_routes = routes;
    }
    spec.get("ipv4NormalRoutePriority", config.normal_priority4);
    spec.get("ipv6NormalRoutePriority", config.normal_priority6);
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return config;
}

Result<void> BgpConfiguration::validate() const {
    auto bad = [&](std::string_view field, std::string_view what) {
        return invalid(Kind::BgpConfiguration, meta, field, what);
    };
    if (meta.name != "default" && !meta.name.starts_with("node.")) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("BGPConfiguration {}: metadata.name: expected default or"
                                " node.<node>",
                                meta.name));
    }
    if (as_number == 0U) {
        return bad("asNumber", "expected 1 to 4294967295");
    }
    if (listen_port == uint16_t{0}) {
        return bad("listenPort", "expected 1 to 65535");
    }
    if (local_workload_ipv4 && !local_workload_ipv4->is_v4()) {
        return bad("localWorkloadPeeringIPV4", "expected an IPv4 address");
    }
    if (local_workload_ipv6 && local_workload_ipv6->is_v4()) {
        return bad("localWorkloadPeeringIPV6", "expected an IPv6 address");
    }
    auto known = [&](const std::string& word) {
        return word.find(':') != std::string::npos ||
               std::ranges::any_of(communities,
                                   [&](const auto& community) { return community.name == word; });
    };
    for (const auto& advertisement : prefix_advertisements) {
        for (const auto& word : advertisement.communities) {
            if (!known(word)) {
                return bad(
                    "prefixAdvertisements.communities",
                    fmt::format("\"{}\": neither a value nor a name in spec.communities", word));
            }
        }
    }
    return {};
}

Result<BgpPeer> BgpPeer::from_json(const json& object) {
    Problems problems{subject_of(Kind::BgpPeer, object), {}};
    BgpPeer peer;
    peer.meta = read_meta(Kind::BgpPeer, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("node", peer.node);
    spec.get("nodeSelector", peer.node_selector);
    get_peer_ip(spec, peer);
    get_as(spec, "asNumber", peer.as_number);
    spec.get("peerSelector", peer.peer_selector);
    spec.get("localWorkloadSelector", peer.local_workload_selector);
    get_as(spec, "localASNumber", peer.local_as_number);
    spec.get("keepOriginalNextHop", peer.keep_original_next_hop);
    spec.get_enum(
        "nextHopMode", peer.next_hop_mode,
        {{"Auto", NextHopMode::Auto}, {"Self", NextHopMode::Self}, {"Keep", NextHopMode::Keep}});
    get_secret(spec, "password", peer.password);
    spec.get_enum("sourceAddress", peer.source_is_node_ip, {{"UseNodeIP", true}, {"None", false}});
    spec.get("maxRestartTime", peer.max_restart_time);
    spec.get("keepaliveTime", peer.keepalive_time);
    spec.get("numAllowedLocalASNumbers", peer.allowed_local_as_numbers);
    spec.get("ttlSecurity", peer.ttl_security);
    std::string reachable_by;
    spec.get("reachableBy", reachable_by);
    if (!reachable_by.empty()) {
        spec.get("reachableBy", peer.reachable_by);
    }
    spec.get("filters", peer.filters);
    spec.get_enum("reversePeering", peer.reverse_peering, {{"Auto", true}, {"Manual", false}});
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return peer;
}

Result<void> BgpPeer::validate() const {
    auto bad = [&](std::string_view field, std::string_view what) {
        return invalid(Kind::BgpPeer, meta, field, what);
    };
    for (const auto& [field, text] :
         {std::pair<std::string_view, const std::string&>{"nodeSelector", node_selector},
          {"peerSelector", peer_selector},
          {"localWorkloadSelector", local_workload_selector}}) {
        if (auto selector = Selector::parse(text); !selector) {
            return bad(field, selector.error().message);
        }
    }
    if (!node.empty() && !node_selector.empty()) {
        return bad("nodeSelector", "node is set too; expected at most one of them");
    }
    if (!peer_selector.empty() && (peer_ip || as_number)) {
        return bad("peerSelector", "excludes peerIP and asNumber");
    }
    if (!local_workload_selector.empty() && (peer_ip || !peer_selector.empty())) {
        return bad("localWorkloadSelector", "excludes peerIP and peerSelector");
    }
    if (peer_selector.empty() && local_workload_selector.empty() && !peer_ip) {
        return bad("peerIP", "is required without peerSelector and localWorkloadSelector");
    }
    if (peer_selector.empty() && as_number.value_or(0) == 0) {
        return bad("asNumber", "expected 1 to 4294967295");
    }
    if (reachable_by && !peer_ip) {
        return bad("reachableBy", "needs peerIP");
    }
    if (reachable_by && reachable_by->family() != peer_ip->family()) {
        return bad("reachableBy", "expected an address of peerIP's family");
    }
    if (keep_original_next_hop && next_hop_mode != NextHopMode::Auto) {
        return bad("keepOriginalNextHop", "nextHopMode is set too; expected one of them");
    }
    return {};
}

Result<BgpFilter> BgpFilter::from_json(const json& object) {
    Problems problems{subject_of(Kind::BgpFilter, object), {}};
    BgpFilter filter;
    filter.meta = read_meta(Kind::BgpFilter, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    for (auto [name, rules] : {std::pair{"exportV4", &filter.export_v4},
                               {"importV4", &filter.import_v4},
                               {"exportV6", &filter.export_v6},
                               {"importV6", &filter.import_v6}}) {
        spec.each(name, [&](const Fields& item) { rules->push_back(read_rule(item)); });
    }
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return filter;
}

Result<void> BgpFilter::validate() const {
    struct List {
        const char* name;
        const std::vector<BgpFilterRule>& rules;
        Family family;
    };

    for (const List& list :
         {List{"exportV4", export_v4, Family::V4}, List{"importV4", import_v4, Family::V4},
          List{"exportV6", export_v6, Family::V6}, List{"importV6", import_v6, Family::V6}}) {
        for (size_t i = 0; i < list.rules.size(); i++) {
            const auto& rule = list.rules[i];
            auto bad = [&](std::string_view field, std::string_view what) {
                return invalid(Kind::BgpFilter, meta, fmt::format("{}[{}].{}", list.name, i, field),
                               what);
            };
            if (rule.cidr && rule.cidr->family() != list.family) {
                return bad("cidr", fmt::format("{}: of the wrong family", rule.cidr->text()));
            }
            if (!rule.cidr && (rule.min_length || rule.max_length)) {
                return bad("prefixLength", "needs cidr");
            }
            if (rule.min_length.value_or(0) > rule.max_length.value_or(128) ||
                rule.max_length.value_or(0) > address_bits(list.family)) {
                return bad("prefixLength", "expected min <= max, within the family's length");
            }
            if (!rule.accept && !rule.operations.empty()) {
                return bad("operations", "only with action Accept");
            }
        }
    }
    return {};
}

} // namespace manx::api
