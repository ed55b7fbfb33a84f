// SPDX-License-Identifier: Apache-2.0
#include "agent/api/node.h"

#include "agent/api/fields.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <charconv>

namespace manx::api {

namespace {

using nlohmann::json;

constexpr const char* kLabelsAnnotation = "projectcalico.org/labels";

const std::string* annotation(const ObjectMeta& meta, const char* key) {
    auto at = meta.annotations.find(key);
    return at == meta.annotations.end() || at->second.empty() ? nullptr : &at->second;
}

template <typename T>
void read(const ObjectMeta& meta, const char* key, std::optional<T>& out) {
    if (const auto* text = annotation(meta, key)) {
        if (auto value = T::parse(*text)) {
            out = *value;
        }
    }
}

void add_calico_labels(ObjectMeta& meta) {
    const auto* text = annotation(meta, kLabelsAnnotation);
    if (text == nullptr) {
        return;
    }
    auto labels = parse_json(*text);
    if (!labels || !labels->is_object()) {
        return;
    }
    for (const auto& [key, value] : labels->items()) {
        if (value.is_string()) {
            meta.labels.try_emplace(key, value.get<std::string>());
        }
    }
}

// Where a v3 member lives: pointer into the v3 object, annotation of the core object.
struct Mapping {
    const char* pointer;
    const char* annotation;
};

constexpr std::array<Mapping, 10> kMappings{{
    {"/spec/bgp/ipv4Address", kNodeIpv4},
    {"/spec/bgp/ipv6Address", kNodeIpv6},
    {"/spec/bgp/routeReflectorClusterID", kNodeClusterId},
    {"/spec/bgp/ipv4IPIPTunnelAddr", kNodeIpipTunnel4},
    {"/spec/ipv4VXLANTunnelAddr", kNodeVxlanTunnel4},
    {"/spec/ipv6VXLANTunnelAddr", kNodeVxlanTunnel6},
    {"/spec/vxlanTunnelMACAddr", kNodeVxlanMac4},
    {"/spec/vxlanTunnelMACAddrV6", kNodeVxlanMac6},
    {"/spec/wireguard/interfaceIPv4Address", kNodeWireguard4},
    {"/spec/wireguard/interfaceIPv6Address", kNodeWireguard6},
}};

Result<uint32_t> parse_number(std::string_view text, uint32_t max) {
    uint32_t value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || ec != std::errc{} || end != text.data() + text.size() || value > max) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("\"{}\": expected a number up to {}", text, max));
    }
    return value;
}

// The value's format, by the member it is in.
Result<void> check(const Mapping& mapping, const std::string& text) {
    std::string_view pointer = mapping.pointer;
    if (pointer.find("MAC") != std::string_view::npos) {
        TRY(MacAddress::parse(text));
        return {};
    }
    if (pointer.starts_with("/spec/bgp/ipv4Address") || pointer.ends_with("bgp/ipv6Address")) {
        TRY_ASSIGN(auto address, InterfaceAddress::parse(text));
        if ((address.address.family() == Family::V4) != pointer.ends_with("ipv4Address")) {
            return fail(ErrorKind::ConfigInvalid, fmt::format("\"{}\": of the wrong family", text));
        }
        return {};
    }
    TRY_ASSIGN(auto address, IpAddress::parse(text));
    const bool v6 = pointer.find("ipv6") != std::string_view::npos ||
                    pointer.find("IPv6") != std::string_view::npos;
    if (address.is_v4() == v6) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("\"{}\": of the wrong family", text));
    }
    return {};
}

} // namespace

Result<uint32_t> parse_as_number(std::string_view text) {
    size_t dot = text.find('.');
    if (dot == std::string_view::npos) {
        return parse_number(text, UINT32_MAX);
    }
    TRY_ASSIGN(uint32_t high, parse_number(text.substr(0, dot), UINT16_MAX));
    TRY_ASSIGN(uint32_t low, parse_number(text.substr(dot + 1), UINT16_MAX));
    return high << 16 | low;
}

Result<Node> Node::from_json(const json& object) {
    Problems problems{subject_of(Kind::Node, object), {}};
    Node node;
    node.meta = read_meta(Kind::Node, object, problems);
    std::erase_if(node.meta.annotations, [](const auto& item) {
        return item.first.find("projectcalico.org/") == std::string::npos;
    });
    add_calico_labels(node.meta);
    read(node.meta, kNodeIpv4, node.ipv4);
    read(node.meta, kNodeIpv6, node.ipv6);
    read(node.meta, kNodeIpipTunnel4, node.ipip_tunnel4);
    read(node.meta, kNodeVxlanTunnel4, node.vxlan_tunnel4);
    read(node.meta, kNodeVxlanTunnel6, node.vxlan_tunnel6);
    read(node.meta, kNodeVxlanMac4, node.vxlan_mac4);
    read(node.meta, kNodeVxlanMac6, node.vxlan_mac6);
    if (const auto* text = annotation(node.meta, kNodeAsNumber)) {
        if (auto number = parse_as_number(*text)) {
            node.as_number = *number;
        }
    }
    if (const auto* text = annotation(node.meta, kNodeClusterId)) {
        node.route_reflector_cluster_id = *text;
    }
    Fields root(&object, "", problems);
    for (std::string_view wanted : {"InternalIP", "ExternalIP"}) {
        root.at("status").each("addresses", [&](const Fields& item) {
            std::string type;
            std::string text;
            item.get("type", type);
            item.get("address", text);
            auto address = IpAddress::parse(text);
            if (type == wanted && address) {
                node.addresses.push_back(*address);
            }
        });
    }
    Fields spec = root.at("spec");
    spec.get("podCIDRs", node.pod_cidrs);
    if (node.pod_cidrs.empty() && spec.has("podCIDR")) {
        Cidr cidr;
        spec.get("podCIDR", cidr);
        node.pod_cidrs.push_back(cidr);
    }
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return node;
}

Result<json> node_to_v3(const json& core) {
    if (core.is_object() && core.value("apiVersion", json()) == "projectcalico.org/v3") {
        return core;
    }
    TRY_ASSIGN(Node node, Node::from_json(core));
    json out = {{"apiVersion", "projectcalico.org/v3"}, {"kind", "Node"}};
    json metadata = {{"name", node.meta.name}};
    if (!node.meta.labels.empty()) {
        metadata["labels"] = node.meta.labels;
    }
    for (const char* name : {"resourceVersion", "uid", "creationTimestamp"}) {
        if (core["metadata"].contains(name)) {
            metadata[name] = core["metadata"][name];
        }
    }
    out["metadata"] = std::move(metadata);
    json& spec = out["spec"] = json::object();
    for (const auto& mapping : kMappings) {
        if (const auto* text = annotation(node.meta, mapping.annotation)) {
            out[json::json_pointer(mapping.pointer)] = *text;
        }
    }
    if (node.as_number) {
        spec["bgp"]["asNumber"] = *node.as_number;
    }
    json addresses = json::array();
    for (const auto& address : {node.ipv4, node.ipv6}) {
        if (address) {
            addresses.push_back({{"address", address->text()}, {"type", "CalicoNodeIP"}});
        }
    }
    for (const auto& address : node.addresses) {
        addresses.push_back({{"address", address.text()}, {"type", "InternalIP"}});
    }
    if (!addresses.empty()) {
        spec["addresses"] = std::move(addresses);
    }
    spec["orchRefs"] = json::array({{{"nodeName", node.meta.name}, {"orchestrator", "k8s"}}});
    return out;
}

Result<json> node_to_core(const json& object) {
    if (!object.is_object() || object.value("apiVersion", json()) != "projectcalico.org/v3") {
        TRY(Node::from_json(object));
        return object;
    }
    Problems problems{subject_of(Kind::Node, object), {}};
    ObjectMeta meta = read_meta(Kind::Node, object, problems);
    Fields root(&object, "", problems);
    Fields bgp = root.at("spec").at("bgp");
    for (const auto& mapping : kMappings) {
        json::json_pointer pointer(mapping.pointer);
        if (!root.raw().contains(pointer)) {
            continue;
        }
        const json& value = object.at(pointer);
        std::string path = std::string(mapping.pointer + 1);
        std::replace(path.begin(), path.end(), '/', '.');
        if (!value.is_string()) {
            problems.add(path, "expected a string");
        } else if (auto good = check(mapping, value.get<std::string>()); !good) {
            problems.add(path, good.error().message);
        } else {
            meta.annotations[mapping.annotation] = value.get<std::string>();
        }
    }
    if (const json* number = bgp.find("asNumber")) {
        std::string text = number->is_string() ? number->get<std::string>() : number->dump();
        if (auto parsed = parse_as_number(text)) {
            meta.annotations[kNodeAsNumber] = std::to_string(*parsed);
        } else {
            bgp.wrong("asNumber", parsed.error().message);
        }
    }
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    json out = {{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", object["metadata"]}};
    if (!meta.annotations.empty()) {
        out["metadata"]["annotations"] = meta.annotations;
    }
    json addresses = json::array();
    root.at("spec").each("addresses", [&](const Fields& item) {
        std::string type;
        std::string text;
        item.get("type", type);
        item.get("address", text);
        if (type == "InternalIP" || type == "ExternalIP") {
            addresses.push_back({{"type", type}, {"address", text}});
        }
    });
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    if (!addresses.empty()) {
        out["status"]["addresses"] = std::move(addresses);
    }
    return out;
}

} // namespace manx::api
