// SPDX-License-Identifier: Apache-2.0
#include "agent/api/pod.h"

#include "agent/api/fields.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace manx::api {

namespace {

// "10.65.0.2/32,fd00::2/128" and the like, as the CNI plugin wrote it.
std::vector<IpAddress> addresses_in(std::string_view text) {
    std::vector<IpAddress> out;
    while (!text.empty()) {
        size_t comma = text.find(',');
        if (auto address = InterfaceAddress::parse(text.substr(0, comma))) {
            out.push_back(address->address);
        }
        text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
    }
    return out;
}

std::string annotation(const ObjectMeta& meta, const char* key) {
    auto at = meta.annotations.find(key);
    return at == meta.annotations.end() ? "" : at->second;
}

void read_ips(const Fields& status, Pod& pod) {
    status.each("podIPs", [&](const Fields& item) {
        IpAddress ip;
        item.get("ip", ip);
        if (item.has("ip")) {
            pod.ips.push_back(ip);
        }
    });
    std::string single;
    status.get("podIP", single);
    if (pod.ips.empty() && !single.empty()) {
        IpAddress ip;
        status.get("podIP", ip);
        pod.ips.push_back(ip);
    }
    for (const char* key : {kPodIpsAnnotation, kPodIpAnnotation}) {
        if (pod.ips.empty()) {
            pod.ips = addresses_in(annotation(pod.meta, key));
        }
    }
}

void read_ports(const Fields& container, Pod& pod) {
    container.each("ports", [&](const Fields& item) {
        ContainerPort port;
        std::string protocol;
        item.get("name", port.name);
        item.get("containerPort", port.port);
        item.get("hostPort", port.host_port);
        item.get("protocol", protocol);
        port.protocol = protocol == "UDP" ? 17 : protocol == "SCTP" ? 132 : 6;
        if (!port.name.empty() || port.host_port != 0) {
            pod.named_ports.push_back(std::move(port));
        }
    });
}

bool concerns_network(std::string_view key) {
    return key.find("projectcalico.org/") != std::string_view::npos ||
           key == "kubernetes.io/ingress-bandwidth" || key == "kubernetes.io/egress-bandwidth";
}

bool has_finished(const std::string& phase, const ObjectMeta& meta) {
    if (phase == "Succeeded" || phase == "Failed" || phase == "Completed") {
        return true;
    }
    // An empty podIP annotation is the CNI plugin's word that it has taken the network down.
    auto at = meta.annotations.find(kPodIpAnnotation);
    return !meta.deletion_timestamp.empty() && at != meta.annotations.end() && at->second.empty();
}

} // namespace

Result<Pod> Pod::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::Pod, object), {}};
    Pod pod;
    pod.meta = read_meta(Kind::Pod, object, problems);
    std::erase_if(pod.meta.annotations,
                  [](const auto& item) { return !concerns_network(item.first); });
    Fields root(&object, "", problems);
    Fields spec = root.at("spec");
    spec.get("nodeName", pod.node_name);
    spec.get("hostNetwork", pod.host_network);
    spec.get("serviceAccountName", pod.service_account);
    for (const char* list : {"containers", "initContainers"}) {
        spec.each(list, [&](const Fields& container) { read_ports(container, pod); });
    }
    Fields status = root.at("status");
    std::string phase;
    status.get("phase", phase);
    pod.finished = has_finished(phase, pod.meta);
    read_ips(status, pod);
    pod.ips.shrink_to_fit();
    pod.named_ports.shrink_to_fit();
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return pod;
}

namespace {

constexpr uint8_t kMulticastBit = 1; // of the first byte

// "1c-0c-0a-00-00-01" and "1c0c.0a00.0001" are written too.
std::string with_colons(std::string text) {
    if (text.size() == 17 && text.find(':') == std::string::npos) {
        std::replace(text.begin(), text.end(), '-', ':');
    } else if (text.size() == 14 && text[4] == '.' && text[9] == '.') {
        std::erase(text, '.');
        for (size_t at = 10; at > 0; at -= 2) {
            text.insert(at, ":");
        }
    }
    return text;
}

} // namespace

Result<NetworkRequest> network_request(const std::string& subject, const StringMap& annotations) {
    NetworkRequest request;
    Problems problems{subject, {}};
    auto read = [&](const char* name, auto& out) {
        std::string key = fmt::format("cni.projectcalico.org/{}", name);
        auto at = annotations.find(key);
        if (at == annotations.end() || at->second.empty()) {
            return;
        }
        auto list = parse_json(at->second);
        if (!list) {
            problems.add("annotation " + key, "expected a JSON list of strings");
            return;
        }
        nlohmann::json holder = {{key, std::move(*list)}};
        Fields(&holder, "annotation", problems).get(key.c_str(), out);
    };
    read("ipv4pools", request.pools4);
    read("ipv6pools", request.pools6);
    read("ipAddrs", request.addresses);
    read("ipAddrsNoIpam", request.addresses_no_ipam);
    std::vector<std::string> families;
    read("ipFamilies", families);
    for (const auto& family : families) {
        if (family == "IPv4" || family == "IPv6") {
            request.families.push_back(family == "IPv4" ? Family::V4 : Family::V6);
        } else {
            problems.add("annotation cni.projectcalico.org/ipFamilies",
                         fmt::format("\"{}\": expected IPv4 or IPv6", family));
        }
    }
    auto mac = annotations.find("cni.projectcalico.org/hwAddr");
    if (mac != annotations.end() && !mac->second.empty()) {
        const auto parsed = MacAddress::parse(with_colons(mac->second));
        const bool none = parsed && *parsed == MacAddress{};
        if (parsed && !none && (parsed->bytes[0] & kMulticastBit) == 0) {
            request.mac = *parsed;
        } else {
            problems.add("annotation cni.projectcalico.org/hwAddr",
                         parsed ? fmt::format("\"{}\": expected the address of one device, not a "
                                              "multicast address or zero",
                                              mac->second)
                                : parsed.error().message);
        }
    }
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return request;
}

} // namespace manx::api
