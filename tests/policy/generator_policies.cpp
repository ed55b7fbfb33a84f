// SPDX-License-Identifier: Apache-2.0
// Policies of all kinds.
#include "tests/policy/generator.h"

namespace manx::testing_policy {

std::string Generator::quoted(const std::string& text) {
    const bool single = text.find('\'') == std::string::npos && chance(70);
    return single ? "'" + text + "'" : '"' + text + '"';
}

std::string Generator::key() {
    return pick<std::string>({"app", "app", "app", "side", "side", "pcns.team", "pcsa.role",
                              "projectcalico.org/namespace", "projectcalico.org/serviceaccount",
                              "pcns.projectcalico.org/name"});
}

std::string Generator::term() {
    const std::string label = key();
    const auto blank = [&] { return chance(80) ? " " : chance(50) ? "  " : "\t"; };
    const auto word = [&] {
        const bool place = label.find("namespace") != std::string::npos ||
                           label.find("pcns.projectcalico") != std::string::npos;
        return quoted(place                                               ? ns()
                      : label.find("serviceaccount") != std::string::npos ? "robot"
                                                                          : value());
    };
    const auto set = [&] {
        std::string out = "{";
        const int count = below(4);
        for (int i = 0; i < count; ++i) {
            out += (i == 0 ? "" : ",") + std::string(chance(50) ? " " : "") + word();
        }
        return out + (count > 0 && chance(20) ? "," : "") + "}";
    };
    switch (below(12)) {
    case 0:
        return "all()";
    case 1:
        return label + blank() + "!=" + blank() + word();
    case 2:
        return label + " in" + blank() + set();
    case 3:
        return label + pick<std::string>({" not in ", " notin ", " not\tin "}) + set();
    case 4:
        return "has(" + label + ")";
    case 5:
        return label + " contains " + word();
    case 6:
        return label + " starts with " + word();
    case 7:
        return label + " ends with" + blank() + word();
    case 8:
        return "projectcalico.org/orchestrator == 'k8s'";
    default:
        return label + blank() + "==" + blank() + word();
    }
}

std::string Generator::selector(int depth) {
    if (depth == 0 || chance(45)) {
        return term();
    }
    switch (below(5)) {
    case 0:
        return "!" + std::string(chance(30) ? "!" : "") + "(" + selector(depth - 1) + ")";
    case 1:
        return "! has(" + key() + ")";
    case 2:
        return selector(depth - 1) + " && " + selector(depth - 1);
    case 3:
        return selector(depth - 1) + "||" + selector(depth - 1);
    default:
        return "( " + selector(depth - 1) + " ) && (" + selector(depth - 1) + ")";
    }
}

std::string Generator::inherited_selector(const std::string& label, bool global) {
    const std::string name = label == "role" ? pick<std::string>({"robot", "default"}) : ns();
    switch (below(global ? 9 : 7)) {
    case 0:
        return "all()";
    case 1:
        return label + " == " + quoted(value());
    case 2:
        return label + " != " + quoted(value());
    case 3:
        return "projectcalico.org/name == '" + name + "'";
    case 4:
        return "!(" + label + " in {" + quoted(value()) + "}) || has(side)";
    case 5:
        return label + " starts with '" + value().substr(0, 1) + "'";
    case 6:
        return "has(" + label + ") && all()";
    case 7:
        return "global() || " + label + " == " + quoted(value());
    default:
        return "global()";
    }
}

json Generator::policy(int i) {
    const std::string name = "pol" + std::to_string(i);
    const int which = below(11);
    json out;
    out["metadata"]["name"] = name;
    if (which < 3) {
        out["apiVersion"] = "networking.k8s.io/v1";
        out["kind"] = "NetworkPolicy";
        out["metadata"]["namespace"] = ns();
        out["spec"] = kubernetes_spec();
    } else if (which < 5) {
        out["apiVersion"] = "policy.networking.k8s.io/v1alpha2";
        out["kind"] = "ClusterNetworkPolicy";
        out["spec"] = cluster_spec();
    } else {
        const bool global = which < 8;
        const bool staged = chance(20);
        out["apiVersion"] = "crd.projectcalico.org/v1";
        out["kind"] = std::string(staged ? "Staged" : "") +
                      (global ? "GlobalNetworkPolicy" : "NetworkPolicy");
        out["spec"] = calico_spec(global);
        if (!global) {
            out["metadata"]["namespace"] = ns();
        }
        if (staged && chance(10)) {
            out["kind"] = "StagedKubernetesNetworkPolicy";
            out["metadata"]["namespace"] = ns();
            out["spec"] = kubernetes_spec();
        } else if (i == 6) { // always, so that a name has one form only
            out["spec"].erase("tier");
            out["metadata"]["name"] = "default." + name; // as Calico stored it once
        } else if (chance(10)) {
            json hidden;
            hidden["name"] = name;
            out["metadata"]["annotations"]["projectcalico.org/metadata"] = hidden.dump();
        }
        if (staged && chance(25)) {
            out["spec"]["stagedAction"] = pick<std::string>({"Set", "Set", "Delete", "Ignore"});
        }
    }
    if (chance(invalid_)) {
        spoil(out);
    }
    return out;
}

json Generator::ports() {
    json out = json::array();
    for (int n = below(4); n > 0; --n) {
        switch (below(9)) {
        case 0:
        case 1:
            out.push_back("web");
            break;
        case 2:
            out.push_back("dns");
            break;
        case 3:
            out.push_back("80:90");
            break;
        case 4:
            out.push_back("0:65535");
            break;
        case 5:
            out.push_back("8080");
            break;
        default:
            out.push_back(pick<int>({80, 8080, 53, 443, 0, 65535}));
        }
    }
    return out;
}

json Generator::entity(bool with_ports, bool may_service) {
    json out = json::object();
    if (may_service && chance(20)) {
        out["services"]["name"] = pick<std::string>({"svc", "svc", "other", "nobody"});
        out["services"]["namespace"] = chance(80) ? "a" : "b";
        return out;
    }
    if (chance(35)) {
        out["selector"] = selector();
    } else if (chance(8)) {
        out["selector"] = "";
    }
    if (chance(15)) {
        out["notSelector"] = selector();
    }
    if (chance(25)) {
        out["namespaceSelector"] = inherited_selector("team", true);
    }
    if (chance(15)) {
        if (chance(50)) {
            out["serviceAccounts"]["names"] = json::array({"robot"});
        }
        if (chance(60)) {
            out["serviceAccounts"]["selector"] = inherited_selector("role", false);
        }
    }
    if (chance(25)) {
        out["nets"] = nets(3);
    }
    if (chance(20)) {
        out["notNets"] = nets(2);
    }
    if (with_ports && chance(55)) {
        out["ports"] = ports();
    }
    if (with_ports && chance(20)) {
        out["notPorts"] = ports();
    }
    return out;
}

json Generator::calico_rule(bool ingress) {
    json rule;
    rule["action"] = pick<std::string>({"Allow", "Allow", "Allow", "Deny", "Deny", "Log", "Pass"});
    if (chance(10)) {
        rule["ipVersion"] = chance(50) ? 4 : 6;
    }
    bool with_ports = false;
    switch (below(8)) {
    case 0:
    case 1:
        rule["protocol"] = pick<json>({"TCP", "TCP", 6, "tcp", "6"});
        with_ports = true;
        break;
    case 2:
    case 3:
        rule["protocol"] = pick<json>({"UDP", "SCTP", 17, 132});
        with_ports = true;
        break;
    case 4: {
        rule["protocol"] = pick<json>({"ICMP", "ICMPv6", 1, 58});
        const char* field = chance(70) ? "icmp" : "notICMP";
        if (chance(65)) {
            rule[field]["type"] = pick<int>({0, 3, 8, 128, 129, 200});
            if (chance(50)) {
                rule[field]["code"] = pick<int>({0, 1, 255});
            }
        }
        break;
    }
    case 5:
        rule["notProtocol"] = pick<json>({"TCP", "UDP", 47, "ICMP", 58});
        if (chance(20)) {
            rule["protocol"] = "TCP";
            with_ports = true;
        }
        break;
    case 6:
        rule["protocol"] = pick<json>({"UDPLite", 47, 255, 4, 41});
        break;
    default:
        break;
    }
    if (with_ports && rule["action"] == "Allow" && chance(5) &&
        (rule["protocol"] == "TCP" || rule["protocol"] == 6)) {
        rule["http"]["methods"] = json::array({"GET"});
    }
    if (chance(70)) {
        rule["source"] = entity(with_ports && chance(50), ingress);
    }
    if (chance(70)) {
        rule["destination"] = entity(with_ports, false);
        if (!ingress && chance(15)) {
            rule["destination"] = entity(false, true);
        }
    }
    if (chance(5)) {
        rule["metadata"]["annotations"]["name"] = "of the author";
    }
    return rule;
}

json Generator::calico_spec(bool global) {
    json spec = json::object();
    if (chance(45)) {
        spec["tier"] = pick<std::string>(
            {"t1", "t2", "t3", "nowhere", "elsewhere", "kube-admin", "kube-baseline", "default"});
    }
    if (chance(60)) {
        spec["order"] = pick<double>({0, 500, 1000, 1000, -3, 1000.5});
    } else if (chance(20)) {
        spec["order"] = nullptr;
    }
    if (chance(90)) {
        spec["selector"] = chance(45) ? pick<std::string>({"all()", ""}) : selector();
    }
    if (global && chance(40)) {
        spec["namespaceSelector"] = inherited_selector("team", false);
    }
    if (chance(12)) {
        spec["serviceAccountSelector"] = inherited_selector("role", false);
    }
    if (chance(75)) {
        spec["types"] = pick<std::vector<std::string>>(
            {{"Ingress"}, {"Egress"}, {"Ingress", "Egress"}, {"Ingress", "Egress"}, {}});
    }
    for (const bool ingress : {true, false}) {
        json rules = json::array();
        for (int n = below(4); n > 0; --n) {
            rules.push_back(calico_rule(ingress));
        }
        if (!rules.empty() || chance(50)) {
            spec[ingress ? "ingress" : "egress"] = rules;
        }
    }
    if (global && chance(3)) {
        spec["doNotTrack"] = true;
        spec["applyOnForward"] = true;
    }
    return spec;
}

json Generator::label_selector() {
    json out = json::object();
    if (chance(40)) {
        out["matchLabels"]["app"] = value();
    }
    if (chance(40)) {
        json one;
        one["key"] = chance(60) ? "side" : "app";
        one["operator"] = pick<std::string>({"In", "NotIn", "Exists", "DoesNotExist"});
        if (one["operator"].get<std::string>().ends_with("In")) {
            one["values"] = json::array({value()});
            if (chance(50)) {
                one["values"].push_back(value());
            }
        }
        out["matchExpressions"] = json::array({one});
    }
    return out;
}

json Generator::namespace_selector() {
    json out = json::object();
    switch (below(5)) {
    case 0:
    case 1:
        break;
    case 2:
        out["matchLabels"]["projectcalico.org/name"] = ns();
        break;
    case 3: {
        json one;
        one["key"] = "team";
        one["operator"] = "NotIn";
        one["values"] = json::array({value()});
        out["matchExpressions"] = json::array({one});
        break;
    }
    default:
        out["matchLabels"]["team"] = value();
    }
    return out;
}

json Generator::kubernetes_port() {
    json port = json::object();
    if (chance(70)) {
        port["protocol"] = pick<std::string>({"TCP", "UDP", "SCTP"});
    }
    if (chance(80)) {
        port["port"] =
            chance(35) ? json(chance(70) ? "web" : "dns") : json(pick<int>({80, 53, 443, 1}));
        if (port["port"].is_number() && chance(30)) {
            port["endPort"] =
                pick<int>({port["port"].get<int>(), port["port"].get<int>() + 10, 65535});
        }
    }
    return port;
}

json Generator::kubernetes_peer() {
    json peer;
    if (chance(30)) {
        peer["ipBlock"]["cidr"] =
            pick<std::string>({"10.0.0.0/29", "0.0.0.0/0", "::/0", "fd00::/125", "10.0.0.0/28"});
        if (chance(40)) {
            peer["ipBlock"]["except"] = nets(2);
        }
        return peer;
    }
    if (chance(60)) {
        peer["podSelector"] = label_selector();
    }
    if (peer.is_null() || chance(40)) {
        peer["namespaceSelector"] = namespace_selector();
    }
    return peer;
}

json Generator::kubernetes_spec() {
    json spec;
    spec["podSelector"] = label_selector();
    if (chance(80)) {
        spec["policyTypes"] = pick<std::vector<std::string>>(
            {{"Ingress"}, {"Egress"}, {"Ingress", "Egress"}, {"Ingress", "Egress"}, {}});
    }
    for (const bool ingress : {true, false}) {
        json rules = json::array();
        for (int n = below(3); n > 0; --n) {
            json rule = json::object();
            if (chance(60)) {
                rule["ports"] = json::array();
                for (int m = below(4); m > 0; --m) {
                    rule["ports"].push_back(kubernetes_port());
                }
            }
            if (chance(70)) {
                json& peers = rule[ingress ? "from" : "to"] = json::array();
                for (int m = below(3); m > 0; --m) {
                    peers.push_back(kubernetes_peer());
                }
            }
            rules.push_back(rule);
        }
        if (!rules.empty() || chance(50)) {
            spec[ingress ? "ingress" : "egress"] = rules;
        }
    }
    return spec;
}

json Generator::cluster_rule(bool ingress) {
    json rule;
    rule["action"] = pick<std::string>({"Accept", "Deny", "Pass"});
    if (chance(10)) {
        rule["name"] = "of the author";
    }
    json& peers = rule[ingress ? "from" : "to"] = json::array();
    for (int n = 1 + below(2); n > 0; --n) {
        json peer;
        switch (below(ingress ? 2 : 3)) {
        case 0:
            peer["namespaces"] = namespace_selector();
            break;
        case 1:
            peer["pods"]["namespaceSelector"] = namespace_selector();
            peer["pods"]["podSelector"] = label_selector();
            break;
        default: {
            const json list = nets(2);
            peer["networks"] = list.empty() ? json::array({"10.0.0.0/28"}) : list;
        }
        }
        peers.push_back(peer);
    }
    if (chance(55)) {
        json& protocols = rule["protocols"] = json::array();
        for (int n = 1 + below(2); n > 0; --n) {
            json one;
            json port;
            switch (below(6)) {
            case 0:
                one["destinationNamedPort"] = chance(70) ? "web" : "dns";
                break;
            case 1:
                one[pick<std::string>({"tcp", "udp", "sctp"})] = json::object();
                break;
            case 2:
                port["range"]["start"] = pick<int>({50, 80, 1});
                port["range"]["end"] = pick<int>({80, 90, 65535});
                one[pick<std::string>({"tcp", "udp", "sctp"})]["destinationPort"] = port;
                break;
            default:
                port["number"] = pick<int>({80, 53, 443});
                one[pick<std::string>({"tcp", "udp"})]["destinationPort"] = port;
            }
            protocols.push_back(one);
        }
    }
    return rule;
}

json Generator::cluster_spec() {
    json spec;
    spec["tier"] = chance(50) ? "Admin" : "Baseline";
    spec["priority"] = pick<int>({0, 10, 10, 1000});
    if (chance(50)) {
        spec["subject"]["namespaces"] = namespace_selector();
    } else {
        spec["subject"]["pods"]["namespaceSelector"] = namespace_selector();
        spec["subject"]["pods"]["podSelector"] = label_selector();
    }
    for (const bool ingress : {true, false}) {
        json rules = json::array();
        for (int n = below(4); n > 0; --n) {
            rules.push_back(cluster_rule(ingress));
        }
        if (!rules.empty() || chance(20)) {
            spec[ingress ? "ingress" : "egress"] = rules;
        }
    }
    return spec;
}

} // namespace manx::testing_policy
