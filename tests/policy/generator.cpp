// SPDX-License-Identifier: Apache-2.0
#include "tests/policy/generator.h"

#include <algorithm>
#include <array>

namespace manx::testing_policy {

namespace {

constexpr int kPods = 10;

json object(const char* api_version, const std::string& kind, const std::string& name,
            const std::string& ns = "") {
    json out;
    out["apiVersion"] = api_version;
    out["kind"] = kind;
    out["metadata"]["name"] = name;
    if (!ns.empty()) {
        out["metadata"]["namespace"] = ns;
    }
    return out;
}

json named_port(const char* name, const char* field, int number, const char* protocol) {
    json port;
    port["name"] = name;
    port[field] = number;
    if (protocol != nullptr) {
        port["protocol"] = protocol;
    }
    return port;
}

} // namespace

std::string Generator::ns() {
    return pick<std::string>({"a", "b", "c"});
}

// Quotes and the empty value among them.
std::string Generator::value() {
    return pick<std::string>({"x", "y", "z", "x", "y", "z", "xy", "y's", ""});
}

std::vector<json> Generator::cluster() {
    std::vector<json> out;
    for (const char* name : {"a", "b", "c"}) {
        if (chance(92)) {
            out.push_back(object("v1", "Namespace", name));
            out.back()["metadata"]["labels"]["team"] = value();
            if (chance(30)) {
                out.back()["metadata"]["labels"]["side"] = value();
            }
        }
        if (chance(85)) {
            out.push_back(object("v1", "ServiceAccount", "robot", name));
            out.back()["metadata"]["labels"]["role"] = value();
        }
    }
    for (int i = 1; i <= 2; ++i) {
        const std::string node = "n" + std::to_string(i);
        out.push_back(object("v1", "Node", node));
        json addresses;
        for (const char* net : {"192.0.2.", "2001:db8:1::"}) {
            json address;
            address["type"] = "InternalIP";
            address["address"] = net + std::to_string(i);
            addresses.push_back(address);
        }
        out.back()["status"]["addresses"] = addresses;
        if (chance(40)) {
            out.push_back(host_endpoint(node));
        }
    }
    for (int i = 6 + below(kPods - 5); i > 0; --i) {
        out.push_back(pod(i));
    }
    for (int i = below(4); i > 0; --i) {
        out.push_back(network_set(i));
    }
    if (chance(50)) {
        out.push_back(service());
    }
    for (int i = below(4); i > 0; --i) {
        out.push_back(slice(i));
    }
    for (int i = below(4); i > 0; --i) {
        out.push_back(tier(i));
    }
    const int policies = 1 + below(7);
    for (int i = policies; i > 0; --i) {
        out.push_back(policy(i));
    }
    if (chance(30)) { // one more of a name that there is, if of another kind or namespace
        json twin = policy(1 + below(policies));
        const auto id = [](const json& one) {
            return one["apiVersion"].get<std::string>() + one["kind"].get<std::string>() +
                   one["metadata"].value("namespace", "") + "/" +
                   one["metadata"]["name"].get<std::string>();
        };
        if (std::ranges::none_of(out, [&](const json& one) { return id(one) == id(twin); })) {
            out.push_back(std::move(twin));
        }
    }
    return out;
}

json Generator::plain_pod(int i) {
    const std::string n = std::to_string(i);
    json out = object("v1", "Pod", "p" + n, ns());
    json& labels = out["metadata"]["labels"];
    labels["app"] = value();
    if (chance(50)) {
        labels["side"] = value();
    }
    json& spec = out["spec"];
    spec["nodeName"] = chance(75) ? "n1" : "n2";
    spec["serviceAccountName"] = chance(50) ? "robot" : "default";
    json ports = json::array();
    if (chance(60)) {
        ports.push_back(named_port("web", "containerPort", chance(50) ? 80 : 8080, nullptr));
    }
    if (chance(40)) {
        ports.push_back(named_port("dns", "containerPort", 53, "UDP"));
    }
    if (chance(25)) {
        ports.push_back(named_port("web", "containerPort", 53, pick<const char*>({"UDP", "SCTP"})));
    }
    json container;
    container["ports"] = ports;
    spec["containers"] = json::array({container});
    if (chance(15)) { // in another container: the same name, another number
        json other;
        other["ports"] = json::array({named_port("web", "containerPort", 443, "TCP")});
        spec["containers"].push_back(other);
    }
    json ips = json::array();
    for (const char* net : {"10.0.0.", "fd00::"}) {
        json ip;
        ip["ip"] = net + n;
        ips.push_back(ip);
    }
    out["status"]["podIPs"] = ips;
    return out;
}

json Generator::pod(int i) {
    json out = plain_pod(i);
    json& status = out["status"];
    switch (below(24)) {
    case 0:
        status["phase"] = pick<std::string>({"Succeeded", "Failed"});
        break;
    case 1: // deleted, and its network is gone
        out["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
        out["metadata"]["annotations"]["cni.projectcalico.org/podIP"] = "";
        break;
    case 2:
        status["podIPs"].erase(size_t{0});
        break;
    case 3:
        status["podIPs"].erase(size_t{1});
        break;
    case 4:
        status["podIP"] = status["podIPs"][0]["ip"];
        status.erase("podIPs");
        break;
    case 5: // no kubelet has written the status yet
        out["metadata"]["annotations"]["cni.projectcalico.org/podIPs"] =
            status["podIPs"][0]["ip"].get<std::string>() + "/32," +
            status["podIPs"][1]["ip"].get<std::string>() + "/128";
        out.erase("status");
        break;
    case 6:
        out["spec"].erase("serviceAccountName");
        break;
    case 7:
        out["metadata"].erase("labels");
        break;
    default:
        break;
    }
    return out;
}

json Generator::host_endpoint(const std::string& node) {
    json out = object("crd.projectcalico.org/v1", "HostEndpoint", "host-" + node);
    out["metadata"]["labels"]["app"] = value();
    json& spec = out["spec"];
    spec["node"] = node;
    spec["interfaceName"] = "*";
    spec["expectedIPs"] =
        json::array({"192.0.2." + node.substr(1), "2001:db8:1::" + node.substr(1)});
    if (chance(60)) {
        spec["ports"] = json::array({named_port("web", "port", 80, "TCP")});
        if (chance(50)) {
            spec["ports"].push_back(named_port("dns", "port", 53, "UDP"));
        }
    }
    hide_metadata(out);
    return out;
}

// Calico keeps labels of its objects in an annotation.
void Generator::hide_metadata(json& out) {
    json& meta = out["metadata"];
    if (chance(25) && meta.contains("labels")) {
        json hidden;
        hidden["labels"] = meta["labels"];
        meta.erase("labels");
        meta["annotations"]["projectcalico.org/metadata"] = hidden.dump();
    }
}

json Generator::nets(int most) {
    static const std::vector<std::string> kNets{
        "10.0.0.0/29", "10.0.0.4/30", "192.0.2.0/24", "0.0.0.0/0",     "fd00::/125",
        "fd00::4/128", "::/0",        "10.0.0.3/32",  "10.0.0.7/16",   "192.0.2.2",
        "fd00::8/126", "fd00::2",     "10.0.0.8/29",  "2001:db8::/32", "10.0.0.1"};
    json out = json::array();
    for (int n = below(most + 1); n > 0; --n) {
        out.push_back(pick(kNets));
    }
    return out;
}

json Generator::network_set(int i) {
    const bool global = chance(50);
    json out = object("crd.projectcalico.org/v1", global ? "GlobalNetworkSet" : "NetworkSet",
                      (chance(20) ? "p" : "s") + std::to_string(i), global ? std::string() : ns());
    out["metadata"]["labels"]["app"] = value();
    if (chance(30)) {
        out["metadata"]["labels"]["side"] = value();
    }
    out["spec"]["nets"] = nets(4);
    hide_metadata(out);
    if (chance(invalid_)) {
        spoil(out);
    }
    return out;
}

json Generator::service() {
    json out = object("v1", "Service", "svc", "a");
    out["spec"]["clusterIPs"] = json::array({"10.96.0.1", "fd96::1"});
    json port;
    port["port"] = 80;
    out["spec"]["ports"] = json::array({port});
    return out;
}

// Endpoints that are not ready count too, and so do addresses that are no pod's.
json Generator::slice(int i) {
    const bool v4 = chance(60);
    json out = object("discovery.k8s.io/v1", "EndpointSlice", "e" + std::to_string(i),
                      chance(80) ? "a" : "b");
    out["metadata"]["labels"]["kubernetes.io/service-name"] =
        pick<std::string>({"svc", "svc", "other"});
    out["addressType"] = v4 ? "IPv4" : "IPv6";
    json ports = json::array();
    for (int n = below(4); n > 0; --n) {
        json port;
        port["name"] = "n" + std::to_string(n);
        if (chance(90)) {
            port["port"] = pick<int>({80, 8080, 53, 443});
        }
        if (chance(80)) {
            port["protocol"] = pick<std::string>({"TCP", "TCP", "UDP", "SCTP"});
        }
        ports.push_back(port);
    }
    out["ports"] = ports;
    json endpoints = json::array();
    for (int n = below(4); n > 0; --n) {
        json endpoint;
        endpoint["addresses"] =
            json::array({(v4 ? "10.0.0." : "fd00::") + std::to_string(1 + below(kPods + 1))});
        if (chance(30)) {
            endpoint["conditions"]["ready"] = chance(50);
        }
        endpoints.push_back(endpoint);
    }
    if (chance(20)) {
        json endpoint;
        endpoint["addresses"] = json::array({v4 ? "198.51.100.9" : "2001:db8::9"});
        endpoints.push_back(endpoint);
    }
    out["endpoints"] = endpoints;
    return out;
}

json Generator::tier(int i) {
    const bool builtin = chance(15);
    json out = object("crd.projectcalico.org/v1", "Tier",
                      builtin ? pick<std::string>({"default", "kube-admin", "kube-baseline"})
                              : "t" + std::to_string(i));
    json& spec = out["spec"];
    spec["defaultAction"] = builtin      ? (out["metadata"]["name"] == "default" ? "Deny" : "Pass")
                            : chance(40) ? "Pass"
                                         : "Deny";
    if (!builtin && chance(20)) {
        spec.erase("defaultAction");
        spec["order"] = nullptr;
    }
    if (chance(80)) {
        spec["order"] = pick<double>({-5, 0, 700000, 700000, 1000, 1e6, 2e7, 0.5});
    }
    if (!builtin && chance(invalid_)) {
        spoil(out);
    }
    return out;
}

std::vector<oracle::Query> Generator::queries(int count) {
    std::array<std::vector<IpAddress>, 2> all; // by family
    const auto add = [&](size_t family, const std::string& text, int weight) {
        all.at(family).insert(all.at(family).end(), static_cast<size_t>(weight),
                              *IpAddress::parse(text));
    };
    for (int i = 1; i <= kPods + 1; ++i) {
        add(0, "10.0.0." + std::to_string(i), 4);
        add(1, "fd00::" + std::to_string(i), 4);
    }
    for (const char* text : {"192.0.2.1", "192.0.2.2", "192.0.2.7", "198.51.100.9", "10.96.0.1"}) {
        add(0, text, 1);
    }
    for (const char* text :
         {"2001:db8:1::1", "2001:db8:1::2", "2001:db8::9", "2001:db9::9", "fd96::1"}) {
        add(1, text, 1);
    }
    std::vector<oracle::Query> out;
    for (int i = 0; i < count; ++i) {
        const auto& from = all.at(chance(55) ? 0 : 1);
        oracle::Query query{.from = pick(from), .to = pick(from)};
        query.protocol = pick<int>({6, 6, 6, 6, 17, 17, 132, 1, 58, 4, 41, 47, 136, 255});
        query.source_port = pick<int>({40000, 1000, 53, 80, 0, 65535});
        query.port = pick<int>({80, 80, 8080, 53, 81, 90, 91, 443, 0, 65535, 4789});
        if (query.protocol == 1 || query.protocol == 58) {
            query.port = pick<int>({8 << 8, 8 << 8 | 1, 0, 13 << 8, 3 << 8 | 1, 128 << 8, 129 << 8,
                                    135 << 8, 200 << 8 | 255, 1 << 8 | 4});
            query.source_port = pick<int>({1, 77});
        } else if (query.protocol != 6 && query.protocol != 17 && query.protocol != 132) {
            query.port = 0;
            query.source_port = 0;
        }
        out.push_back(query);
    }
    return out;
}

} // namespace manx::testing_policy
