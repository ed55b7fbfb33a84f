// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/from_objects.h"

#include "agent/api/selector.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace manx::bgp {

using std::chrono::seconds;

Result<seconds> parse_duration(std::string_view text) {
    auto wrong = [&] {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("\"{}\": expected a duration such as 90s or 2m30s", text));
    };
    double total = 0;
    std::string_view rest = text;
    while (!rest.empty()) {
        double value = 0;
        auto [end, ec] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
        if (ec != std::errc{} || value < 0) {
            return wrong();
        }
        rest.remove_prefix(static_cast<size_t>(end - rest.data()));
        auto unit_length = rest.find_first_of("0123456789.");
        std::string_view unit = rest.substr(0, unit_length);
        if (unit == "h") {
            total += value * 3600;
        } else if (unit == "m") {
            total += value * 60;
        } else if (unit == "s") {
            total += value;
        } else if (unit == "ms") {
            total += value / 1000;
        } else {
            return wrong();
        }
        rest.remove_prefix(unit.size());
    }
    // What BIRD can hold in 16 bits, as the protocol does.
    if (text.empty() || total > UINT16_MAX) {
        return wrong();
    }
    return seconds(static_cast<int64_t>(std::ceil(total)));
}

namespace {

template <typename Map, typename Key, typename Value>
bool assign(Map& map, const Key& key, Value value) {
    auto [it, added] = map.try_emplace(key, value);
    if (added) {
        return true;
    }
    if (it->second == value) {
        return false;
    }
    it->second = std::move(value);
    return true;
}

EncapMode encap(api::EncapMode mode) {
    switch (mode) {
    case api::EncapMode::Never:
        break;
    case api::EncapMode::Always:
        return EncapMode::Always;
    case api::EncapMode::CrossSubnet:
        return EncapMode::CrossSubnet;
    }
    return EncapMode::Never;
}

LogSeverity severity(const std::string& text) {
    if (text == "Debug") {
        return LogSeverity::Debug;
    }
    if (text == "Warning") {
        return LogSeverity::Warning;
    }
    if (text == "Error" || text == "Fatal" || text == "None") {
        return LogSeverity::Error;
    }
    return LogSeverity::Info;
}

// The annotation, else the node's own address of the family, whose subnet is then not known.
std::optional<InterfaceAddress> address_of(const api::Node& node, Family family) {
    if (node.address(family)) {
        return node.address(family);
    }
    for (const IpAddress& address : node.addresses) {
        if (address.family() == family) {
            return InterfaceAddress{address, address.bits()};
        }
    }
    return std::nullopt;
}

Result<LabelMatcher> matcher(const std::string& selector, const char* field) {
    if (selector.empty()) {
        return LabelMatcher{};
    }
    auto parsed = api::Selector::parse(selector);
    if (!parsed) {
        return Unexpected(parsed.error().within(field));
    }
    return LabelMatcher(
        [parsed = std::move(*parsed)](const Labels& labels) { return parsed.matches(labels); });
}

Result<std::optional<seconds>> duration(const std::string& text, const char* field) {
    if (text.empty()) {
        return std::optional<seconds>{};
    }
    auto parsed = parse_duration(text);
    if (!parsed) {
        return Unexpected(parsed.error().within(field));
    }
    return std::optional<seconds>(*parsed);
}

Result<FilterRule> rule(const api::BgpFilterRule& object) {
    FilterRule r;
    r.cidr = object.cidr;
    switch (object.match) {
    case api::PrefixMatch::Equal:
        r.match = MatchOperator::Equal;
        break;
    case api::PrefixMatch::NotEqual:
        r.match = MatchOperator::NotEqual;
        break;
    case api::PrefixMatch::In:
        r.match = MatchOperator::In;
        break;
    case api::PrefixMatch::NotIn:
        r.match = MatchOperator::NotIn;
        break;
    }
    r.min_length = object.min_length;
    r.max_length = object.max_length;
    r.from_remote_peers = object.from_remote_peers;
    r.interface = object.interface;
    r.internal_peer = object.internal_peer;
    if (!object.community.empty()) {
        TRY_ASSIGN(r.community, Community::parse(object.community));
    }
    r.as_path_prefix = object.as_path_prefix;
    r.priority = object.priority;
    r.accept = object.accept;
    for (const auto& operation : object.operations) {
        FilterOperation o;
        if (!operation.add_community.empty()) {
            TRY_ASSIGN(o.add_community, Community::parse(operation.add_community));
        }
        o.prepend_as_path = operation.prepend_as_path;
        o.set_priority = operation.set_priority;
        r.operations.push_back(std::move(o));
    }
    return r;
}

Result<Filter> filter(const api::BgpFilter& object) {
    Filter f;
    f.name = object.meta.name;
    for (auto [from, to] : {std::pair{&object.export_v4, &f.export_v4},
                            {&object.import_v4, &f.import_v4},
                            {&object.export_v6, &f.export_v6},
                            {&object.import_v6, &f.import_v6}}) {
        for (const api::BgpFilterRule& r : *from) {
            TRY_ASSIGN(auto converted, rule(r));
            to->push_back(std::move(converted));
        }
    }
    return f;
}

ServiceType service_type(const std::string& text) {
    if (text == "NodePort") {
        return ServiceType::NodePort;
    }
    if (text == "LoadBalancer") {
        return ServiceType::LoadBalancer;
    }
    return text == "ExternalName" ? ServiceType::ExternalName : ServiceType::ClusterIp;
}

} // namespace

ObjectTable::ObjectTable(std::string node_name, std::string secret_namespace)
    : node_name_(std::move(node_name)), secret_namespace_(std::move(secret_namespace)) {
}

bool ObjectTable::upsert(const api::Node& object) {
    Node node;
    node.name = object.meta.name;
    node.labels = object.meta.labels;
    node.ipv4 = address_of(object, Family::V4);
    node.ipv6 = address_of(object, Family::V6);
    node.as_number = object.as_number;
    // It goes into the configuration as it is.
    if (auto id = IpAddress::parse(object.route_reflector_cluster_id); id && id->is_v4()) {
        node.route_reflector_cluster_id = id->text();
    }
    auto has_key = [&](const char* annotation) {
        auto it = object.meta.annotations.find(annotation);
        return it != object.meta.annotations.end() && !it->second.empty();
    };
    node.wireguard4 = has_key("projectcalico.org/WireguardPublicKey");
    node.wireguard6 = has_key("projectcalico.org/WireguardPublicKeyV6");
    return assign(nodes_, object.meta.name, std::move(node));
}

bool ObjectTable::upsert(const api::BgpConfiguration& object) {
    configurations_[object.meta.name] = object;
    return true;
}

bool ObjectTable::upsert(const api::BgpPeer& object) {
    peers_[object.meta.name] = object;
    return true;
}

bool ObjectTable::upsert(const api::BgpFilter& object) {
    filters_[object.meta.name] = object;
    return true;
}

bool ObjectTable::upsert(const api::IpPool& object) {
    Pool pool;
    pool.name = object.meta.name;
    pool.cidr = object.cidr;
    pool.ipip = encap(object.ipip);
    pool.vxlan = encap(object.vxlan);
    pool.disabled = object.disabled;
    pool.disable_bgp_export = object.disable_bgp_export;
    return assign(pools_, object.meta.name, std::move(pool));
}

bool ObjectTable::upsert(const api::BlockAffinity& object) {
    // Of others, or not ours yet: the block says nothing to BIRD.
    if (object.node != node_name_ || object.type != "host" || object.deleted ||
        object.state == api::AffinityState::Pending) {
        return blocks_.erase(object.meta.name) != 0;
    }
    bool leaving = object.state == api::AffinityState::PendingDeletion;
    return assign(
        blocks_, object.meta.name,
        Block{object.cidr, leaving ? BlockState::PendingDeletion : BlockState::Confirmed});
}

bool ObjectTable::upsert(const api::Service& object) {
    Service service;
    service.ns = object.meta.ns;
    service.name = object.meta.name;
    service.type = service_type(object.type);
    service.cluster_ips = object.cluster_ips;
    service.external_ips = object.external_ips;
    service.load_balancer_ips = object.load_balancer_ips;
    service.external_policy_local = object.external_policy_local;
    return assign(services_, Name{object.meta.ns, object.meta.name}, std::move(service));
}

bool ObjectTable::upsert(const api::EndpointSlice& object) {
    Slice slice;
    slice.service = object.service;
    for (const api::SliceEndpoint& endpoint : object.endpoints) {
        if (endpoint.ready) {
            (endpoint.node == node_name_ ? slice.ready_here : slice.ready_elsewhere) = true;
        }
    }
    return assign(slices_, Name{object.meta.ns, object.meta.name}, std::move(slice));
}

bool ObjectTable::upsert(const api::Secret& object) {
    return object.meta.ns == secret_namespace_ && assign(secrets_, object.meta.name, object.data);
}

bool ObjectTable::remove(api::Kind kind, const std::string& ns, const std::string& name) {
    switch (kind) {
    case api::Kind::Node:
        return nodes_.erase(name) != 0;
    case api::Kind::BgpConfiguration:
        return configurations_.erase(name) != 0;
    case api::Kind::BgpPeer:
        return peers_.erase(name) != 0;
    case api::Kind::BgpFilter:
        return filters_.erase(name) != 0;
    case api::Kind::IpPool:
        return pools_.erase(name) != 0;
    case api::Kind::BlockAffinity:
        return blocks_.erase(name) != 0;
    case api::Kind::Service:
        return services_.erase({ns, name}) != 0;
    case api::Kind::EndpointSlice:
        return slices_.erase({ns, name}) != 0;
    case api::Kind::Secret:
        return ns == secret_namespace_ && secrets_.erase(name) != 0;
    default:
        return false;
    }
}

std::optional<std::string> ObjectTable::password(const api::SecretKeyRef& ref) const {
    auto secret = secrets_.find(ref.name);
    if (secret == secrets_.end()) {
        return std::nullopt;
    }
    auto value = secret->second.find(ref.key);
    if (value == secret->second.end()) {
        return std::nullopt;
    }
    // Files that Secrets are made of often end in a newline.
    std::string text = value->second;
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
        text.pop_back();
    }
    return text;
}

Settings ObjectTable::settings(std::vector<std::string>& problems) const {
    Settings settings;
    auto find = [&](const std::string& name) {
        auto it = configurations_.find(name);
        return it == configurations_.end() ? nullptr : &it->second;
    };
    const auto* common = find("default");
    const auto* own = find("node." + node_name_);
    static const api::BgpConfiguration kNone;
    const auto& c = common == nullptr ? kNone : *common;

    settings.node_mesh = c.node_mesh.value_or(settings.node_mesh);
    settings.as_number = c.as_number.value_or(settings.as_number);
    settings.listen_port = c.listen_port.value_or(settings.listen_port);
    settings.bind_mode = c.bind_to_node_ip ? BindMode::NodeIp : BindMode::Any;
    settings.service_cluster_ips = c.service_cluster_ips;
    settings.service_external_ips = c.service_external_ips;
    settings.service_load_balancer_ips = c.service_load_balancer_ips;
    settings.load_balancer_aggregation = c.load_balancer_aggregation;
    settings.ignored_interfaces = c.ignored_interfaces;
    settings.mesh_password_required = c.mesh_password.has_value();
    if (c.mesh_password) {
        settings.mesh_password = password(*c.mesh_password);
    }
    if (auto time = duration(c.mesh_max_restart_time, "nodeMeshMaxRestartTime")) {
        settings.mesh_max_restart_time = *time;
    } else {
        problems.push_back(time.error().within("BGPConfiguration default").text());
    }
    if (c.program_cluster_routes) {
        switch (*c.program_cluster_routes) {
        case api::ClusterRoutes::Disabled:
            settings.program_cluster_routes = ProgramClusterRoutes::Disabled;
            break;
        case api::ClusterRoutes::EnabledNoEncapOnly:
            settings.program_cluster_routes = ProgramClusterRoutes::EnabledNoEncapOnly;
            break;
        case api::ClusterRoutes::EnabledIpipOnly:
            settings.program_cluster_routes = ProgramClusterRoutes::EnabledIpipOnly;
            break;
        case api::ClusterRoutes::Enabled:
            settings.program_cluster_routes = ProgramClusterRoutes::Enabled;
            break;
        }
    }
    settings.normal_priority4 = c.normal_priority4.value_or(kNormalRoutePriority);
    settings.normal_priority6 = c.normal_priority6.value_or(kNormalRoutePriority);
    settings.local_workload_ipv4 = c.local_workload_ipv4;
    settings.local_workload_ipv6 = c.local_workload_ipv6;
    settings.log_severity =
        severity(own != nullptr && !own->log_severity.empty() ? own->log_severity : c.log_severity);

    std::map<std::string, std::string> named;
    for (const auto* object : {common, own}) {
        if (object != nullptr) {
            for (const api::BgpCommunity& community : object->communities) {
                named[community.name] = community.value;
            }
        }
    }
    const auto& advertiser = own != nullptr && !own->prefix_advertisements.empty() ? *own : c;
    for (const auto& advertisement : advertiser.prefix_advertisements) {
        PrefixAdvertisement converted{advertisement.cidr, {}};
        for (const std::string& text : advertisement.communities) {
            auto it = named.find(text);
            auto community = Community::parse(it == named.end() ? text : it->second);
            if (community) {
                converted.communities.push_back(std::move(*community));
            } else {
                problems.push_back(
                    community.error()
                        .within(fmt::format("BGPConfiguration {}: "
                                            "prefixAdvertisements {}",
                                            advertiser.meta.name, advertisement.cidr.text()))
                        .text());
            }
        }
        settings.prefix_advertisements.push_back(std::move(converted));
    }
    return settings;
}

Result<Peer> ObjectTable::peer(const api::BgpPeer& object) const {
    Peer p;
    p.name = object.meta.name;
    p.node = object.node;
    TRY_ASSIGN(p.node_selector, matcher(object.node_selector, "nodeSelector"));
    p.peer_ip = object.peer_ip;
    p.peer_port = object.peer_port;
    p.as_number = object.as_number.value_or(0);
    TRY_ASSIGN(p.peer_selector, matcher(object.peer_selector, "peerSelector"));
    TRY_ASSIGN(p.local_workload_selector,
               matcher(object.local_workload_selector, "localWorkloadSelector"));
    p.local_as = object.local_as_number;
    p.keep_original_next_hop = object.keep_original_next_hop;
    switch (object.next_hop_mode) {
    case api::NextHopMode::Auto:
        break;
    case api::NextHopMode::Self:
        p.next_hop_mode = NextHopMode::Self;
        break;
    case api::NextHopMode::Keep:
        p.next_hop_mode = NextHopMode::Keep;
        break;
    }
    p.password_required = object.password.has_value();
    if (object.password) {
        p.password = password(*object.password);
    }
    p.source_is_node_ip = object.source_is_node_ip;
    TRY_ASSIGN(p.max_restart_time, duration(object.max_restart_time, "maxRestartTime"));
    TRY_ASSIGN(p.keepalive_time, duration(object.keepalive_time, "keepaliveTime"));
    p.allowed_local_as = object.allowed_local_as_numbers;
    p.ttl_security = object.ttl_security;
    p.reachable_by = object.reachable_by;
    p.filters = object.filters;
    p.reverse_peering = object.reverse_peering;
    return p;
}

Inputs ObjectTable::inputs(std::vector<std::string>& problems) const {
    Inputs inputs;
    inputs.node_name = node_name_;
    inputs.settings = settings(problems);
    for (const auto& [name, node] : nodes_) {
        inputs.nodes.push_back(node);
        if (auto own = configurations_.find("node." + name); own != configurations_.end()) {
            inputs.nodes.back().listen_port = own->second.listen_port;
        }
    }
    for (const auto& [name, object] : peers_) {
        if (auto converted = peer(object)) {
            inputs.peers.push_back(std::move(*converted));
        } else {
            problems.push_back(converted.error().within("BGPPeer " + name).text());
        }
    }
    for (const auto& [name, object] : filters_) {
        if (auto converted = filter(object)) {
            inputs.filters.push_back(std::move(*converted));
        } else {
            // Its sessions must not come up without it.
            inputs.filters.push_back({.name = name, .wrong = converted.error().text()});
        }
    }
    for (const auto& [name, pool] : pools_) {
        inputs.pools.push_back(pool);
    }
    for (const auto& [name, block] : blocks_) {
        inputs.blocks.push_back(block);
    }
    if (inputs.settings.service_cluster_ips.empty() &&
        inputs.settings.service_external_ips.empty() &&
        inputs.settings.service_load_balancer_ips.empty()) {
        return inputs;
    }
    std::map<Name, std::vector<ServiceEndpoint>> endpoints;
    for (const auto& [name, slice] : slices_) {
        auto& list = endpoints[{name.first, slice.service}];
        if (slice.ready_here) {
            list.push_back({node_name_, true});
        }
        if (slice.ready_elsewhere) {
            list.push_back({"", true});
        }
    }
    for (const auto& [name, service] : services_) {
        inputs.services.push_back(service);
        inputs.services.back().endpoints = endpoints[name];
    }
    return inputs;
}

} // namespace manx::bgp
