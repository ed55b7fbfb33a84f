// SPDX-License-Identifier: Apache-2.0
// Objects in which something is wrong, a little of everything: what is left of them says
// tests/oracle/reading.h.
#include "tests/policy/generator.h"

namespace manx::testing_policy {

namespace {

// A rule of the object's, or nullptr.
json* some_rule(json& spec, const char* list, int which) {
    if (!spec.contains(list) || spec[list].empty()) {
        return nullptr;
    }
    return &spec[list][static_cast<size_t>(which) % spec[list].size()];
}

} // namespace

void Generator::spoil_calico_rule(json& rule, bool ingress) {
    json& side = rule[chance(50) ? "source" : "destination"];
    switch (below(14)) {
    case 0:
        rule["action"] = pick<std::string>({"Mirror", "allow", "Accept"});
        break;
    case 1:
        rule["mode"] = "new";
        break;
    case 2:
        side["domains"] = json::array({"example.org"});
        break;
    case 3:
        side["nets"] = json::array({"10.0.0.0/29", pick<std::string>({"10.0.0.300", "x", "1/2"})});
        break;
    case 4:
        side["selector"] = pick<std::string>({"app =", "app == 'x", "has (app)", "all ()", "(a"});
        break;
    case 5:
        side["notSelector"] = "app near 'x'";
        break;
    case 6:
        side["namespaceSelector"] = "team in ['x']";
        break;
    case 7: // ports without a protocol that has some
        rule["protocol"] = chance(50) ? json("ICMP") : json(nullptr);
        side["ports"] = json::array({80});
        break;
    case 8:
        rule["protocol"] = pick<json>({"QUIC", 0, 256, "300"});
        break;
    case 9:
        rule["protocol"] = pick<json>({"ICMP", "TCP"});
        rule["icmp"]["type"] = rule["protocol"] == "ICMP" ? 300 : 8;
        break;
    case 10: // on the wrong side, or with more
        rule[ingress ? "destination" : "source"]["services"]["name"] = "svc";
        rule[ingress ? "destination" : "source"]["services"]["namespace"] = "a";
        break;
    case 11:
        rule["ipVersion"] = 5;
        break;
    case 12:
        rule["protocol"] = "TCP";
        side["ports"] = json::array({80, pick<json>({"90:80", 65536, "80:", "65537"})});
        break;
    default:
        side["serviceAccounts"]["selector"] = "role ==";
    }
}

void Generator::spoil_calico(json& spec, bool global) {
    const bool ingress = chance(50);
    json* rule = some_rule(spec, ingress ? "ingress" : "egress", below(8));
    if (rule != nullptr && chance(70)) {
        spoil_calico_rule(*rule, ingress);
        return;
    }
    switch (below(global ? 6 : 5)) {
    case 0:
        spec["selector"] = pick<std::string>({"app near 'x'", "app == x", "!", "app"});
        break;
    case 1:
        spec["types"] = json::array({"Ingress", "Forward"});
        break;
    case 2:
        spec["schedule"] = 1;
        break;
    case 3:
        spec["order"] = "first";
        break;
    case 4:
        spec["serviceAccountSelector"] = "role in (x)";
        break;
    default:
        spec["namespaceSelector"] = "team == ";
    }
}

void Generator::spoil_kubernetes(json& spec) {
    const bool ingress = chance(50);
    const char* side = ingress ? "from" : "to";
    json* rule = some_rule(spec, ingress ? "ingress" : "egress", below(8));
    json wrong;
    if (rule != nullptr && chance(70)) {
        switch (below(6)) {
        case 0:
            wrong["fqdn"] = "x";
            (*rule)[side] = json::array({wrong});
            break;
        case 1:
            wrong["endPort"] = 90;
            (*rule)["ports"] = json::array({wrong});
            break;
        case 2:
            wrong["protocol"] = "FTP";
            (*rule)["ports"] = json::array({wrong});
            break;
        case 3:
            (*rule)[side] = json::array({json::object()});
            break;
        case 4:
            wrong["ipBlock"]["cidr"] = "10.0.0.0/33";
            (*rule)[side] = json::array({wrong});
            break;
        default:
            (*rule)["when"] = "now";
        }
        return;
    }
    switch (below(3)) {
    case 0:
        spec["policyTypes"] = json::array({"Ingress", "Audit"});
        break;
    case 1:
        spec["mode"] = "x";
        break;
    default:
        wrong["key"] = "app";
        wrong["operator"] = "Gt";
        spec["podSelector"]["matchExpressions"] = json::array({wrong});
    }
}

void Generator::spoil_cluster(json& spec) {
    const bool ingress = chance(50);
    const char* side = ingress ? "from" : "to";
    json* rule = some_rule(spec, ingress ? "ingress" : "egress", below(8));
    json wrong;
    if (rule != nullptr && chance(75)) {
        switch (below(6)) {
        case 0:
            wrong["domainNames"] = json::array({"example.org"});
            (*rule)[side].push_back(wrong);
            break;
        case 1:
            wrong["nodes"] = json::object();
            (*rule)[side] = json::array({wrong});
            break;
        case 2:
            wrong["quic"] = json::object();
            (*rule)["protocols"] = json::array({wrong});
            break;
        case 3:
            (*rule)[side] = json::array();
            break;
        case 4:
            (*rule)["action"] = "Audit";
            break;
        default:
            wrong["networks"] = json::array({"10.0.0.0/99"});
            (*rule)[side] = json::array({wrong});
        }
        return;
    }
    switch (below(4)) {
    case 0:
        spec["tier"] = "Developer";
        break;
    case 1:
        spec["priority"] = 1001;
        break;
    case 2:
        spec["mode"] = "x";
        break;
    default:
        spec["subject"] = json::object();
    }
}

void Generator::spoil(json& object) {
    const std::string kind = object["kind"].get<std::string>();
    json& spec = object["spec"];
    if (kind.ends_with("NetworkSet")) {
        spec["nets"].push_back(pick<std::string>({"10.0.0.0/33", "fd00::/129", "nowhere"}));
    } else if (kind == "Tier") {
        spec["defaultAction"] = "Drop";
    } else if (kind == "ClusterNetworkPolicy") {
        spoil_cluster(spec);
    } else if (spec.contains("podSelector")) {
        spoil_kubernetes(spec);
    } else {
        spoil_calico(spec, kind.ends_with("GlobalNetworkPolicy"));
    }
}

} // namespace manx::testing_policy
