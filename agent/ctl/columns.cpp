// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/columns.h"

#include "agent/api/names.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <span>

namespace manx::ctl {

namespace {

using api::Kind;
using nlohmann::json;

// The text of what a JSON pointer leads to; lists joined with commas.
std::string at(const json& object, const char* pointer, const std::string& otherwise = "") {
    json::json_pointer path(pointer);
    if (!object.contains(path)) {
        return otherwise;
    }
    const json& value = object.at(path);
    if (value.is_string()) {
        return value.get_ref<const std::string&>().empty() ? otherwise : value.get<std::string>();
    }
    if (value.is_array()) {
        std::string out;
        for (const auto& item : value) {
            out += (out.empty() ? "" : ",") +
                   (item.is_string() ? item.get<std::string>()
                                     : item.dump(-1, ' ', false, json::error_handler_t::replace));
        }
        return out;
    }
    if (value.is_number_float()) {
        return fmt::format("{}", value.get<double>());
    }
    return value.is_null() ? otherwise : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string count(const json& object, const char* pointer) {
    json::json_pointer path(pointer);
    return std::to_string(object.contains(path) ? object.at(path).size() : 0);
}

std::string cut(std::string text, size_t length) {
    if (text.size() > length) {
        text.resize(length);
    }
    return text;
}

std::string peer_node(const json& object) {
    std::string selector = at(object, "/spec/nodeSelector");
    return selector.empty() ? at(object, "/spec/node", "(global)") : selector;
}

std::string node_as(const json& object, const ColumnContext& context) {
    auto node = api::Node::from_json(object);
    return node && node->as_number ? std::to_string(*node->as_number)
                                   : "(" + context.cluster_as_number + ")";
}

template <Family family>
std::string node_address(const json& object, const ColumnContext& /*context*/) {
    auto node = api::Node::from_json(object);
    return node && node->address(family) ? node->address(family)->text() : "";
}

std::string pod_addresses(const json& object) {
    auto pod = api::Pod::from_json(object);
    std::string out;
    for (const auto& ip : pod ? pod->ips : std::vector<IpAddress>{}) {
        out += (out.empty() ? "" : ",") + ip.text();
    }
    return out;
}

struct Column {
    const char* name;
    std::function<std::string(const json&, const ColumnContext&)> value;
    bool wide_only = false;
    bool narrow_only = false;
};

Column field(const char* name, const char* pointer, const char* otherwise = "") {
    return {name, [=](const json& o, const ColumnContext&) { return at(o, pointer, otherwise); }};
}

Column wide(Column column) {
    column.wide_only = true;
    return column;
}

Column narrow(Column column) {
    column.narrow_only = true;
    return column;
}

Column plain(const char* name, std::string (*value)(const json&)) {
    return {name, [value](const json& o, const ColumnContext&) { return value(o); }};
}

std::vector<Column> policy_columns() {
    return {field("TIER", "/spec/tier", "default"), wide(field("ORDER", "/spec/order")),
            wide(field("SELECTOR", "/spec/selector"))};
}

// All but NAME, which every kind has.
std::vector<Column> columns_of(Kind kind) {
    switch (kind) {
    case Kind::IpPool:
        return {field("CIDR", "/spec/cidr"),
                narrow(field("SELECTOR", "/spec/nodeSelector", "all()")),
                wide(field("NAT", "/spec/natOutgoing", "false")),
                wide(field("IPIPMODE", "/spec/ipipMode", "Never")),
                wide(field("VXLANMODE", "/spec/vxlanMode", "Never")),
                wide(field("DISABLED", "/spec/disabled", "false")),
                wide(field("DISABLEBGPEXPORT", "/spec/disableBGPExport", "false")),
                wide(field("SELECTOR", "/spec/nodeSelector", "all()")),
                wide(field("ASSIGNMENTMODE", "/spec/assignmentMode", "Automatic"))};
    case Kind::Node:
        return {wide({"ASN", node_as}), wide({"IPV4", node_address<Family::V4>}),
                wide({"IPV6", node_address<Family::V6>})};
    case Kind::BgpPeer:
        return {field("PEERIP", "/spec/peerIP"), plain("NODE", peer_node),
                field("ASN", "/spec/asNumber")};
    case Kind::BgpConfiguration:
        return {field("LOGSEVERITY", "/spec/logSeverityScreen", "-"),
                field("MESHENABLED", "/spec/nodeToNodeMeshEnabled", "-"),
                field("ASNUMBER", "/spec/asNumber", "-")};
    case Kind::BgpFilter:
        return {plain("NUMEXPORTV4", [](const json& o) { return count(o, "/spec/exportV4"); }),
                plain("NUMIMPORTV4", [](const json& o) { return count(o, "/spec/importV4"); }),
                plain("NUMEXPORTV6", [](const json& o) { return count(o, "/spec/exportV6"); }),
                plain("NUMIMPORTV6", [](const json& o) { return count(o, "/spec/importV6"); })};
    case Kind::NetworkPolicy:
    case Kind::GlobalNetworkPolicy:
    case Kind::StagedNetworkPolicy:
    case Kind::StagedGlobalNetworkPolicy:
        return policy_columns();
    case Kind::StagedKubernetesNetworkPolicy:
        return {wide(field("PODSELECTOR", "/spec/podSelector"))};
    case Kind::K8sNetworkPolicy:
        return {field("POD-SELECTOR", "/spec/podSelector/matchLabels")};
    case Kind::Tier:
        return {field("ORDER", "/spec/order")};
    case Kind::NetworkSet:
    case Kind::GlobalNetworkSet:
        return {wide(plain("NETS", [](const json& o) { return cut(at(o, "/spec/nets"), 80); }))};
    case Kind::HostEndpoint:
        return {field("NODE", "/spec/node"), wide(field("INTERFACE", "/spec/interfaceName")),
                wide(field("IPS", "/spec/expectedIPs")), wide(field("PROFILES", "/spec/profiles"))};
    case Kind::ClusterInformation:
        return {field("CLUSTERGUID", "/spec/clusterGUID"),
                field("CLUSTERTYPE", "/spec/clusterType"),
                field("CALICOVERSION", "/spec/calicoVersion"),
                field("DATASTOREREADY", "/spec/datastoreReady")};
    case Kind::IpReservation:
        return {wide(field("CIDRS", "/spec/reservedCIDRs"))};
    case Kind::IpamConfig:
        return {field("STRICTAFFINITY", "/spec/strictAffinity", "false"),
                field("AUTOALLOCATEBLOCKS", "/spec/autoAllocateBlocks", "true"),
                wide(field("MAXBLOCKSPERHOST", "/spec/maxBlocksPerHost", "0"))};
    case Kind::CalicoNodeStatus:
        return {field("NODE", "/spec/node"), wide(field("CLASSES", "/spec/classes"))};
    case Kind::IpamBlock:
        return {field("CIDR", "/spec/cidr"), field("AFFINITY", "/spec/affinity")};
    case Kind::BlockAffinity:
        return {field("CIDR", "/spec/cidr"), field("NODE", "/spec/node"),
                field("TYPE", "/spec/type", "host"), field("STATE", "/spec/state", "confirmed")};
    case Kind::Pod:
        return {plain("IPS", pod_addresses), field("NODE", "/spec/nodeName"),
                field("PHASE", "/status/phase")};
    case Kind::Service:
        return {field("TYPE", "/spec/type", "ClusterIP"),
                plain("CLUSTER-IPS",
                      [](const json& o) {
                          return at(o, "/spec/clusterIPs", at(o, "/spec/clusterIP"));
                      }),
                wide(field("EXTERNAL-IPS", "/spec/externalIPs")),
                wide(field("SELECTOR", "/spec/selector"))};
    case Kind::EndpointSlice:
        return {field("SERVICE", "/metadata/labels/kubernetes.io~1service-name"),
                plain("ENDPOINTS", [](const json& o) { return count(o, "/endpoints"); })};
    default:
        return {};
    }
}

bool shown(const Column& column, bool is_wide) {
    return is_wide ? !column.narrow_only : !column.wide_only;
}

} // namespace

TableRow column_names(Kind kind, bool is_wide) {
    TableRow row{"NAME"};
    for (const auto& column : columns_of(kind)) {
        if (shown(column, is_wide)) {
            row.emplace_back(column.name);
        }
    }
    return row;
}

TableRow column_values(Kind kind, bool is_wide, const json& object, const ColumnContext& context) {
    TableRow row{at(object, "/metadata/name")};
    for (const auto& column : columns_of(kind)) {
        if (shown(column, is_wide)) {
            row.push_back(column.value(object, context));
        }
    }
    return row;
}

TableRow endpoint_column_names(bool is_wide) {
    TableRow row{"WORKLOAD", "NODE", "NETWORKS", "INTERFACE"};
    if (is_wide) {
        row.insert(row.begin(), "NAME");
        row.insert(row.end(), {"PROFILES", "NATS"});
    }
    return row;
}

TableRow endpoint_column_values(bool is_wide, const json& object) {
    auto pod = api::Pod::from_json(object);
    if (!pod || !pod->is_endpoint()) {
        return {};
    }
    std::string networks;
    for (const auto& ip : pod->ips) {
        networks += (networks.empty() ? "" : ",") + Cidr::host(ip).text();
    }
    const auto& meta = pod->meta;
    TableRow row{meta.name, pod->node_name, networks, api::workload_interface(meta.ns, meta.name)};
    if (is_wide) {
        row.insert(row.begin(), api::workload_endpoint_name(pod->node_name, meta.name));
        std::string account = pod->service_account.empty() ? "default" : pod->service_account;
        row.push_back(fmt::format("kns.{},ksa.{}.{}", meta.ns, meta.ns, account));
        row.emplace_back();
    }
    return row;
}

} // namespace manx::ctl
