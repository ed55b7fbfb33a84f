// SPDX-License-Identifier: Apache-2.0
// Random small clusters: few labels, ports and addresses, so that rules meet often.
#pragma once

#include "tests/oracle/oracle.h"

#include <nlohmann/json.hpp>

#include <random>
#include <string>
#include <vector>

namespace manx::testing_policy {

using nlohmann::json;

class Generator {
public:
    explicit Generator(uint64_t seed) : random_(seed) {}

    bool chance(int percent) { return below(100) < percent; }

    int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

    template <typename T>
    T pick(const std::vector<T>& from) {
        return from[static_cast<size_t>(below(static_cast<int>(from.size())))];
    }

    std::vector<json> cluster() {
        std::vector<json> out;
        for (const char* ns : {"a", "b", "c"}) {
            out.push_back({{"kind", "Namespace"},
                           {"metadata", {{"name", ns}, {"labels", {{"team", pick(kValues)}}}}}});
            out.push_back(
                {{"kind", "ServiceAccount"},
                 {"metadata",
                  {{"name", "robot"}, {"namespace", ns}, {"labels", {{"role", pick(kValues)}}}}}});
        }
        const int pods = 5 + below(5);
        for (int i = 0; i < pods; ++i) {
            out.push_back(pod(i));
        }
        for (int i = below(3); i > 0; --i) {
            out.push_back(network_set(i));
        }
        for (int i = below(3); i > 0; --i) {
            out.push_back(slice(i));
        }
        for (int i = below(3); i > 0; --i) {
            json spec = {{"defaultAction", chance(40) ? "Pass" : "Deny"}};
            if (chance(80)) {
                spec["order"] = below(3) * 700000;
            }
            out.push_back({{"apiVersion", kCalico},
                           {"kind", "Tier"},
                           {"metadata", {{"name", "t" + std::to_string(i)}}},
                           {"spec", spec}});
        }
        for (int i = 1 + below(6); i > 0; --i) {
            out.push_back(policy(i));
        }
        return out;
    }

    json pod(int i) {
        json labels = {{"app", pick(kValues)}};
        if (chance(50)) {
            labels["side"] = pick(kValues);
        }
        json ports = json::array();
        if (chance(60)) {
            ports.push_back({{"name", "web"}, {"containerPort", chance(50) ? 80 : 8080}});
        }
        if (chance(40)) {
            ports.push_back({{"name", "dns"}, {"containerPort", 53}, {"protocol", "UDP"}});
        }
        const std::string n = std::to_string(i + 1);
        return {{"kind", "Pod"},
                {"metadata",
                 {{"name", "p" + n},
                  {"namespace", pick<std::string>({"a", "b", "c"})},
                  {"labels", labels}}},
                {"spec",
                 {{"nodeName", chance(75) ? "n1" : "n2"},
                  {"serviceAccountName", chance(50) ? "robot" : "default"},
                  {"containers", {{{"ports", ports}}}}}},
                {"status", {{"podIPs", {{{"ip", "10.0.0." + n}}, {{"ip", "fd00::" + n}}}}}}};
    }

    json network_set(int i) {
        json nets = json::array();
        for (int n = 1 + below(3); n > 0; --n) {
            nets.push_back(pick(kNets));
        }
        json out = {
            {"apiVersion", kCalico},
            {"kind", chance(50) ? "NetworkSet" : "GlobalNetworkSet"},
            {"metadata", {{"name", "s" + std::to_string(i)}, {"labels", {{"app", pick(kValues)}}}}},
            {"spec", {{"nets", nets}}}};
        if (out["kind"] == "NetworkSet") {
            out["metadata"]["namespace"] = pick<std::string>({"a", "b", "c"});
        }
        return out;
    }

    json slice(int i) {
        json endpoints = json::array();
        for (int n = below(3); n >= 0; --n) {
            endpoints.push_back({{"addresses", {"10.0.0." + std::to_string(1 + below(9))}}});
        }
        return {{"apiVersion", "discovery.k8s.io/v1"},
                {"kind", "EndpointSlice"},
                {"metadata",
                 {{"name", "e" + std::to_string(i)},
                  {"namespace", "a"},
                  {"labels", {{"kubernetes.io/service-name", "svc"}}}}},
                {"addressType", "IPv4"},
                {"ports",
                 {{{"port", pick<int>({80, 8080})}, {"protocol", "TCP"}},
                  {{"port", 53}, {"protocol", "UDP"}}}},
                {"endpoints", endpoints}};
    }

    json policy(int i) {
        const std::string name = "pol" + std::to_string(i);
        const int which = below(10);
        const std::string ns = pick<std::string>({"a", "b", "c"});
        if (which < 3) {
            return {{"apiVersion", "networking.k8s.io/v1"},
                    {"kind", "NetworkPolicy"},
                    {"metadata", {{"name", name}, {"namespace", ns}}},
                    {"spec", kubernetes_spec()}};
        }
        if (which == 3) {
            return {{"apiVersion", "policy.networking.k8s.io/v1alpha2"},
                    {"kind", "ClusterNetworkPolicy"},
                    {"metadata", {{"name", name}}},
                    {"spec", cluster_spec()}};
        }
        const bool global = which < 7;
        json out = {{"apiVersion", kCalico},
                    {"kind", global ? "GlobalNetworkPolicy" : "NetworkPolicy"},
                    {"metadata", {{"name", name}}},
                    {"spec", calico_spec(global)}};
        if (chance(10)) {
            out["kind"] = "Staged" + out["kind"].get<std::string>();
        }
        if (!global) {
            out["metadata"]["namespace"] = ns;
        }
        return out;
    }

    std::vector<oracle::Query> queries(const std::vector<json>& objects, int count) {
        std::vector<IpAddress> v4;
        std::vector<IpAddress> v6;
        for (int i = 1; i <= 11; ++i) {
            v4.push_back(*IpAddress::parse("10.0.0." + std::to_string(i)));
            v6.push_back(*IpAddress::parse("fd00::" + std::to_string(i)));
        }
        v4.push_back(*IpAddress::parse("192.0.2.7"));
        v4.push_back(*IpAddress::parse("198.51.100.9"));
        v6.push_back(*IpAddress::parse("2001:db8::9"));
        (void)objects;
        std::vector<oracle::Query> out;
        for (int i = 0; i < count; ++i) {
            const auto& from = chance(60) ? v4 : v6;
            oracle::Query query{.from = pick(from), .to = pick(from)};
            query.protocol = pick<int>({6, 6, 6, 17, 132, 1, 58, 4});
            query.source_port = pick<int>({40000, 1000, 53});
            query.port = pick<int>({80, 8080, 53, 81, 443, 0});
            if (query.protocol == 1 || query.protocol == 58) {
                query.port = pick<int>({8 << 8, 3 << 8 | 1, 128 << 8});
            } else if (query.protocol == 4) {
                query.port = 0;
                query.source_port = 0;
            }
            out.push_back(query);
        }
        return out;
    }

    std::string selector() {
        switch (below(9)) {
        case 0:
            return "all()";
        case 1:
            return "app == '" + pick(kValues) + "'";
        case 2:
            return "app in {'" + pick(kValues) + "', '" + pick(kValues) + "'}";
        case 3:
            return "side != '" + pick(kValues) + "'";
        case 4:
            return "has(side)";
        case 5:
            return "!has(side) && app == '" + pick(kValues) + "'";
        case 6:
            return "side not in {'x'} || app starts with 'y'";
        case 7:
            return "app == '" + pick(kValues) + "' || side == '" + pick(kValues) + "'";
        default:
            return "projectcalico.org/orchestrator == 'k8s'";
        }
    }

private:
    std::string inherited_selector(const std::string& label, bool global) {
        switch (below(global ? 5 : 4)) {
        case 0:
            return "all()";
        case 1:
            return label + " == '" + pick(kValues) + "'";
        case 2:
            return label + " != '" + pick(kValues) + "'";
        case 3:
            return "projectcalico.org/name == '" + pick<std::string>({"a", "b", "robot"}) + "'";
        default:
            return "global()";
        }
    }

    json ports() {
        json out = json::array();
        for (int n = 1 + below(2); n > 0; --n) {
            switch (below(4)) {
            case 0:
                out.push_back("web");
                break;
            case 1:
                out.push_back("80:90");
                break;
            default:
                out.push_back(pick<int>({80, 8080, 53, 443}));
            }
        }
        return out;
    }

    json entity(bool with_ports, bool may_service, bool global) {
        json out = json::object();
        if (may_service && chance(10)) {
            out["services"] = {{"name", "svc"}, {"namespace", "a"}};
            return out;
        }
        if (chance(40)) {
            out["selector"] = selector();
        }
        if (chance(15)) {
            out["notSelector"] = selector();
        }
        if (chance(25)) {
            out["namespaceSelector"] = inherited_selector("team", true);
        }
        if (chance(10)) {
            out["serviceAccounts"] = {{"names", {"robot"}}};
        } else if (chance(10)) {
            out["serviceAccounts"] = {{"selector", inherited_selector("role", false)}};
        }
        if (chance(20)) {
            out["nets"] = {pick(kNets), pick(kNets)};
        }
        if (chance(15)) {
            out["notNets"] = {pick(kNets)};
        }
        if (with_ports && chance(50)) {
            out["ports"] = ports();
        }
        if (with_ports && chance(15)) {
            out["notPorts"] = ports();
        }
        (void)global;
        return out;
    }

    json calico_rule(bool global, bool ingress) {
        json rule = {{"action", pick<std::string>(
                                    {"Allow", "Allow", "Allow", "Deny", "Deny", "Log", "Pass"})}};
        if (chance(10)) {
            rule["ipVersion"] = chance(50) ? 4 : 6;
        }
        bool with_ports = false;
        switch (below(6)) {
        case 0:
        case 1:
            rule["protocol"] = "TCP";
            with_ports = true;
            break;
        case 2:
            rule["protocol"] = pick<std::string>({"UDP", "SCTP"});
            with_ports = true;
            break;
        case 3:
            rule["protocol"] = chance(50) ? "ICMP" : "ICMPv6";
            if (chance(60)) {
                rule[chance(70) ? "icmp" : "notICMP"] = {{"type", 3}};
                if (chance(50)) {
                    rule[rule.contains("icmp") ? "icmp" : "notICMP"]["code"] = 1;
                }
            }
            break;
        case 4:
            if (chance(50)) {
                rule["notProtocol"] = pick<std::string>({"TCP", "UDP"});
            }
            break;
        default:
            break;
        }
        if (chance(70)) {
            rule["source"] = entity(with_ports && chance(40), ingress, global);
        }
        if (chance(70)) {
            const bool service = !ingress && chance(50);
            rule["destination"] = entity(with_ports, service, global);
        }
        return rule;
    }

    json calico_spec(bool global) {
        json spec = json::object();
        if (chance(30)) {
            spec["tier"] = pick<std::string>({"t1", "t2", "nowhere", "kube-baseline"});
        }
        if (chance(60)) {
            spec["order"] = below(4) * 500;
        }
        spec["selector"] = chance(40) ? "all()" : selector();
        if (global && chance(50)) {
            spec["namespaceSelector"] = inherited_selector("team", false);
        }
        if (chance(10)) {
            spec["serviceAccountSelector"] = inherited_selector("role", false);
        }
        if (chance(70)) {
            spec["types"] =
                pick<json>({json{"Ingress"}, json{"Egress"}, json{"Ingress", "Egress"}});
        }
        for (const bool ingress : {true, false}) {
            json rules = json::array();
            for (int n = below(4); n > 0; --n) {
                rules.push_back(calico_rule(global, ingress));
            }
            spec[ingress ? "ingress" : "egress"] = rules;
        }
        return spec;
    }

    json label_selector() {
        switch (below(5)) {
        case 0:
            return json::object();
        case 1:
            return {{"matchLabels", {{"app", pick(kValues)}}}};
        case 2:
            return {{"matchExpressions",
                     {{{"key", "side"}, {"operator", "NotIn"}, {"values", {pick(kValues)}}}}}};
        case 3:
            return {{"matchExpressions",
                     {{{"key", "side"}, {"operator", chance(50) ? "Exists" : "DoesNotExist"}}}}};
        default:
            return {{"matchLabels", {{"app", pick(kValues)}}},
                    {"matchExpressions",
                     {{{"key", "side"}, {"operator", "In"}, {"values", {"x", "y"}}}}}};
        }
    }

    json namespace_selector() {
        return chance(40) ? json::object() : json{{"matchLabels", {{"team", pick(kValues)}}}};
    }

    json kubernetes_spec() {
        json spec = {{"podSelector", label_selector()}};
        if (chance(80)) {
            spec["policyTypes"] =
                pick<json>({json{"Ingress"}, json{"Egress"}, json{"Ingress", "Egress"}});
        }
        for (const bool ingress : {true, false}) {
            json rules = json::array();
            for (int n = below(3); n > 0; --n) {
                json rule = json::object();
                if (chance(60)) {
                    json list = json::array();
                    for (int m = 1 + below(2); m > 0; --m) {
                        json port = json::object();
                        if (chance(70)) {
                            port["protocol"] = pick<std::string>({"TCP", "UDP", "SCTP"});
                        }
                        if (chance(80)) {
                            port["port"] =
                                chance(30) ? json("web") : json(pick<int>({80, 53, 443}));
                            if (port["port"].is_number() && chance(30)) {
                                port["endPort"] = port["port"].get<int>() + 10;
                            }
                        }
                        list.push_back(port);
                    }
                    rule["ports"] = list;
                }
                if (chance(70)) {
                    json list = json::array();
                    for (int m = 1 + below(2); m > 0; --m) {
                        json peer = json::object();
                        if (chance(30)) {
                            peer["ipBlock"] = {{"cidr", pick(kNets)}};
                            if (chance(40)) {
                                peer["ipBlock"]["except"] = {"10.0.0.2/31"};
                            }
                        } else {
                            if (chance(60)) {
                                peer["podSelector"] = label_selector();
                            }
                            if (peer.empty() || chance(40)) {
                                peer["namespaceSelector"] = namespace_selector();
                            }
                        }
                        list.push_back(peer);
                    }
                    rule[ingress ? "from" : "to"] = list;
                }
                rules.push_back(rule);
            }
            spec[ingress ? "ingress" : "egress"] = rules;
        }
        return spec;
    }

    json cluster_spec() {
        json spec = {{"tier", chance(50) ? "Admin" : "Baseline"}, {"priority", below(3) * 10}};
        spec["subject"] = chance(50) ? json{{"namespaces", namespace_selector()}}
                                     : json{{"pods",
                                             {{"namespaceSelector", namespace_selector()},
                                              {"podSelector", label_selector()}}}};
        for (const bool ingress : {true, false}) {
            json rules = json::array();
            for (int n = below(3); n > 0; --n) {
                json peer;
                switch (below(ingress ? 2 : 3)) {
                case 0:
                    peer = {{"namespaces", namespace_selector()}};
                    break;
                case 1:
                    peer = {{"pods",
                             {{"namespaceSelector", namespace_selector()},
                              {"podSelector", label_selector()}}}};
                    break;
                default:
                    peer = {{"networks", {pick(kNets)}}};
                }
                json rule = {{"action", pick<std::string>({"Accept", "Deny", "Pass"})},
                             {ingress ? "from" : "to", json::array({peer})}};
                if (chance(50)) {
                    rule["protocols"] = json::array({pick<json>(
                        {json{{"tcp", {{"destinationPort", {{"number", 80}}}}}},
                         json{{"udp",
                               {{"destinationPort", {{"range", {{"start", 50}, {"end", 60}}}}}}}},
                         json{{"sctp", json::object()}}, json{{"destinationNamedPort", "web"}}})});
                }
                rules.push_back(rule);
            }
            if (!rules.empty()) {
                spec[ingress ? "ingress" : "egress"] = rules;
            }
        }
        return spec;
    }

    static constexpr const char* kCalico = "crd.projectcalico.org/v1";
    const std::vector<std::string> kValues{"x", "y", "z"};
    const std::vector<std::string> kNets{"10.0.0.0/29", "10.0.0.4/30", "192.0.2.0/24",
                                         "0.0.0.0/0",   "fd00::/125",  "fd00::4/128",
                                         "::/0",        "10.0.0.3/32"};
    std::mt19937_64 random_;
};

} // namespace manx::testing_policy
