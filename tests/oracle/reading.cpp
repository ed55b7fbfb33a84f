// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/reading.h"

#include "base/ip.h"
#include "tests/oracle/oracle.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

namespace manx::oracle {

namespace {

using nlohmann::json;

const json kNone;

const json& member(const json& object, const char* name) {
    const auto found = object.is_object() ? object.find(name) : object.end();
    return object.is_object() && found != object.end() ? *found : kNone;
}

bool only(const json& object, const std::vector<std::string>& known) {
    if (object.is_null()) {
        return true;
    }
    return object.is_object() && std::ranges::all_of(object.items(), [&](const auto& item) {
               return std::ranges::find(known, item.key()) != known.end();
           });
}

bool string_or_none(const json& value) {
    return value.is_null() || value.is_string();
}

std::string text(const json& object, const char* name) {
    const json& value = member(object, name);
    return value.is_string() ? value.get<std::string>() : "";
}

bool list_of(const json& value, const auto& good) {
    return value.is_null() || (value.is_array() && std::ranges::all_of(value, good));
}

bool is_string(const json& value) {
    return value.is_string();
}

bool within(const json& value, int64_t first, int64_t last) {
    return value.is_number_integer() && value.get<int64_t>() >= first &&
           value.get<int64_t>() <= last;
}

bool is_cidr(const json& value) {
    return value.is_string() && Cidr::parse(value.get<std::string>()).has_value();
}

bool selector(const json& value) {
    return value.is_null() || (value.is_string() && World::selects(value, {}, true, true));
}

bool uses_global(const json& value) {
    return value.is_string() && value.get<std::string>().find("global()") != std::string::npos;
}

std::optional<int> number_in(const std::string& word) {
    int number = 0;
    const char* end = word.data() + word.size();
    const auto [at, error] = std::from_chars(word.data(), end, number);
    return error == std::errc() && at == end && !word.empty() && number >= 0 ? std::optional(number)
                                                                             : std::nullopt;
}

// -1: no protocol.
int protocol(const json& value) {
    if (value.is_number()) {
        return within(value, 1, 255) ? value.get<int>() : -1;
    }
    if (!value.is_string()) {
        return -1;
    }
    std::string word = value.get<std::string>();
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    static const std::map<std::string, int> kNames{{"tcp", 6},     {"udp", 17},   {"icmp", 1},
                                                   {"icmpv6", 58}, {"sctp", 132}, {"udplite", 136}};
    if (const auto found = kNames.find(word); found != kNames.end()) {
        return found->second;
    }
    const auto number = number_in(word);
    return number && *number >= 1 && *number <= 255 ? *number : -1;
}

bool good_port(const json& port) {
    if (!port.is_string()) {
        return within(port, 0, 65535);
    }
    const std::string word = port.get<std::string>();
    const size_t colon = word.find(':');
    if (colon == std::string::npos) {
        const auto number = number_in(word);
        return !word.empty() && (!number || *number <= 65535);
    }
    const auto first = number_in(word.substr(0, colon));
    const auto last = number_in(word.substr(colon + 1));
    return first && last && *first <= *last && *last <= 65535;
}

bool filled(const json& list) {
    return !list.is_null() && !list.empty();
}

bool good_service(const json& entity, const std::string& ns, bool ingress, bool source) {
    const json& service = member(entity, "services");
    if (service.is_null()) {
        return true;
    }
    const std::string in = text(service, "namespace").empty() ? ns : text(service, "namespace");
    const json& accounts = member(entity, "serviceAccounts");
    const bool others = !text(entity, "selector").empty() || !text(entity, "notSelector").empty() ||
                        !text(entity, "namespaceSelector").empty() ||
                        filled(member(entity, "nets")) || filled(member(entity, "notNets")) ||
                        filled(member(accounts, "names")) || !text(accounts, "selector").empty();
    const bool ports = filled(member(entity, "ports")) || filled(member(entity, "notPorts"));
    return only(service, {"name", "namespace"}) && !text(service, "name").empty() && !in.empty() &&
           ingress == source && !others && (source || !ports);
}

bool good_entity(const json& entity, const json& rule, const std::string& ns, bool ingress,
                 bool source) {
    if (entity.is_null()) {
        return true;
    }
    const int number = protocol(member(rule, "protocol"));
    const bool may_have_ports = number == 6 || number == 17 || number == 132;
    const json& accounts = member(entity, "serviceAccounts");
    const bool ports = filled(member(entity, "ports")) || filled(member(entity, "notPorts"));
    return only(entity, {"nets", "notNets", "selector", "notSelector", "namespaceSelector", "ports",
                         "notPorts", "serviceAccounts", "services"}) &&
           list_of(member(entity, "nets"), is_cidr) &&
           list_of(member(entity, "notNets"), is_cidr) && selector(member(entity, "selector")) &&
           !uses_global(member(entity, "selector")) && selector(member(entity, "notSelector")) &&
           selector(member(entity, "namespaceSelector")) && only(accounts, {"names", "selector"}) &&
           list_of(member(accounts, "names"), is_string) &&
           selector(member(accounts, "selector")) && list_of(member(entity, "ports"), good_port) &&
           list_of(member(entity, "notPorts"), good_port) && (!ports || may_have_ports) &&
           good_service(entity, ns, ingress, source);
}

bool good_icmp(const json& icmp, const json& rule) {
    if (icmp.is_null()) {
        return true;
    }
    const int number = protocol(member(rule, "protocol"));
    const json& type = member(icmp, "type");
    const json& code = member(icmp, "code");
    return only(icmp, {"type", "code"}) && (number == 1 || number == 58) &&
           (type.is_null() ? code.is_null() : within(type, 0, 255)) &&
           (code.is_null() || within(code, 0, 255));
}

bool good_rule(const json& rule, const std::string& ns, bool ingress) {
    const std::string action = text(rule, "action");
    const json& version = member(rule, "ipVersion");
    const json& known = member(rule, "protocol");
    const json& unwanted = member(rule, "notProtocol");
    const bool http = !member(rule, "http").is_null();
    return only(rule, {"action", "ipVersion", "protocol", "notProtocol", "icmp", "notICMP", "http",
                       "metadata", "source", "destination"}) &&
           (action == "Allow" || action == "Deny" || action == "Log" || action == "Pass") &&
           (version.is_null() || version == 4 || version == 6) &&
           (known.is_null() || protocol(known) > 0) &&
           (unwanted.is_null() || protocol(unwanted) > 0) &&
           good_icmp(member(rule, "icmp"), rule) && good_icmp(member(rule, "notICMP"), rule) &&
           (!http || (action == "Allow" && (known.is_null() || protocol(known) == 6))) &&
           good_entity(member(rule, "source"), rule, ns, ingress, true) &&
           good_entity(member(rule, "destination"), rule, ns, ingress, false);
}

json deny_all() {
    return json::array({{{"action", "Deny"}, {"everything", true}}});
}

json nothing() {
    return {{"nothing", true}};
}

// Rules that deny stay; where one that was not understood could have denied, everything is denied.
void isolate(json& rules, const auto& good) {
    bool could_deny = false;
    bool broken = false;
    for (const json& rule : rules) {
        if (!good(rule)) {
            broken = true;
            could_deny |= text(rule, "action") != "Allow";
        }
    }
    if (could_deny) {
        rules = deny_all();
    } else if (broken) {
        for (json& rule : rules) {
            if (!good(rule) || text(rule, "action") != "Deny") {
                rule = nothing();
            }
        }
    }
}

ReadObject read_calico(const json& object, const std::string& ns, bool global, bool staged) {
    ReadObject out{.object = object};
    json& spec = out.object["spec"];
    const json& order = member(spec, "order");
    const bool subject =
        selector(member(spec, "selector")) && selector(member(spec, "serviceAccountSelector")) &&
        (!global || selector(member(spec, "namespaceSelector"))) &&
        string_or_none(member(spec, "tier")) && (order.is_null() || order.is_number());
    if (!subject) {
        out.problems = true;
        out.reading = global || staged ? Reading::Refused : Reading::Unread;
        for (const char* field : {"selector", "serviceAccountSelector"}) {
            spec.erase(field);
        }
        if (!string_or_none(member(spec, "tier"))) {
            spec.erase("tier");
        }
        if (!order.is_number()) {
            spec.erase("order");
        }
    }
    std::vector<std::string> known{"tier",
                                   "order",
                                   "ingress",
                                   "egress",
                                   "selector",
                                   "types",
                                   "serviceAccountSelector",
                                   "performanceHints",
                                   "stagedAction"};
    if (global) {
        known.insert(known.end(), {"namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward"});
    }
    const auto is_type = [](const json& type) { return type == "Ingress" || type == "Egress"; };
    bool whole = subject && only(spec, known);
    if (!list_of(member(spec, "types"), is_type)) {
        whole = false;
        spec["types"] = json::array({"Ingress", "Egress"});
    }
    for (const bool ingress : {true, false}) {
        const char* list = ingress ? "ingress" : "egress";
        if (!whole) {
            spec[list] = deny_all();
            out.problems = true;
        } else if (spec.contains(list)) {
            const auto good = [&](const json& rule) { return good_rule(rule, ns, ingress); };
            out.problems |= !std::ranges::all_of(spec[list], good);
            isolate(spec[list], good);
        }
    }
    return out;
}

bool good_labels(const json& selector) {
    return only(selector, {"matchLabels", "matchExpressions"}) &&
           list_of(member(selector, "matchExpressions"), [](const json& one) {
               const std::string op = text(one, "operator");
               return only(one, {"key", "operator", "values"}) && !text(one, "key").empty() &&
                      list_of(member(one, "values"), is_string) &&
                      (op == "In" || op == "NotIn" || op == "Exists" || op == "DoesNotExist");
           });
}

bool good_kubernetes_port(const json& port) {
    const json& number = member(port, "port");
    const json& end = member(port, "endPort");
    return only(port, {"protocol", "port", "endPort"}) &&
           (member(port, "protocol").is_null() || protocol(member(port, "protocol")) > 0) &&
           (number.is_null() || number.is_string() || within(number, 1, 65535)) &&
           (end.is_null() || (number.is_number() && within(end, number.get<int>(), 65535)));
}

bool good_kubernetes_peer(const json& peer) {
    const json& block = member(peer, "ipBlock");
    const bool selects =
        !member(peer, "podSelector").is_null() || !member(peer, "namespaceSelector").is_null();
    const bool blocks = !block.is_null();
    return only(peer, {"podSelector", "namespaceSelector", "ipBlock"}) && selects != blocks &&
           good_labels(member(peer, "podSelector")) &&
           good_labels(member(peer, "namespaceSelector")) &&
           (!blocks || (only(block, {"cidr", "except"}) && is_cidr(member(block, "cidr")) &&
                        list_of(member(block, "except"), is_cidr)));
}

ReadObject read_kubernetes(const json& object, bool staged) {
    ReadObject out{.object = object};
    json& spec = out.object["spec"];
    std::vector<std::string> known{"podSelector", "policyTypes", "ingress", "egress"};
    if (staged) {
        known.emplace_back("stagedAction");
    }
    bool whole = only(spec, known);
    if (whole && !good_labels(member(spec, "podSelector"))) {
        whole = false;
        out.reading = staged ? Reading::Refused : Reading::Unread;
        spec["podSelector"] = json::object();
    }
    for (const json& type : member(spec, "policyTypes")) {
        if (type != "Ingress" && type != "Egress") {
            whole = false;
            spec["policyTypes"] = json::array({"Ingress", "Egress"});
            break;
        }
    }
    for (const bool ingress : {true, false}) {
        const char* list = ingress ? "ingress" : "egress";
        const char* side = ingress ? "from" : "to";
        const auto good = [&](const json& rule) {
            return only(rule, {"ports", side}) &&
                   list_of(member(rule, "ports"), good_kubernetes_port) &&
                   list_of(member(rule, side), good_kubernetes_peer);
        };
        if (!whole || !std::ranges::all_of(member(spec, list), good)) {
            spec[list] = json::array(); // all that rules do is allow
            out.problems = true;
        }
    }
    return out;
}

bool good_cluster_port(const json& port) {
    const json& number = member(port, "number");
    const json& range = member(port, "range");
    if (port.is_null()) {
        return true;
    }
    if (!only(port, {"number", "range"}) || number.is_null() == range.is_null()) {
        return false;
    }
    const json& start = member(range, "start");
    return number.is_null() ? only(range, {"start", "end"}) && within(start, 1, 65535) &&
                                  within(member(range, "end"), start.get<int>(), 65535)
                            : within(number, 1, 65535);
}

bool good_cluster_rule(const json& rule, bool ingress) {
    const char* side = ingress ? "from" : "to";
    const auto good_pods = [](const json& pods) {
        return only(pods, {"namespaceSelector", "podSelector"}) &&
               good_labels(member(pods, "namespaceSelector")) &&
               good_labels(member(pods, "podSelector"));
    };
    const auto good_peer = [&](const json& peer) {
        std::vector<std::string> known{"namespaces", "pods"};
        if (!ingress) {
            known.emplace_back("networks");
        }
        const json& networks = member(peer, "networks");
        return only(peer, known) && peer.size() == 1 && good_labels(member(peer, "namespaces")) &&
               good_pods(member(peer, "pods")) && list_of(networks, is_cidr) &&
               (networks.is_null() || !networks.empty());
    };
    const auto good_protocol = [](const json& one) {
        if (!text(one, "destinationNamedPort").empty()) {
            return only(one, {"destinationNamedPort"});
        }
        return only(one, {"tcp", "udp", "sctp"}) && !one.empty() &&
               std::ranges::all_of(one, [](const json& match) {
                   return only(match, {"destinationPort"}) &&
                          good_cluster_port(member(match, "destinationPort"));
               });
    };
    const json& protocols = member(rule, "protocols");
    const std::string action = text(rule, "action");
    return only(rule, {"name", "action", "protocols", side}) &&
           (action == "Accept" || action == "Deny" || action == "Pass") &&
           filled(member(rule, side)) && list_of(member(rule, side), good_peer) &&
           list_of(protocols, good_protocol) && (protocols.is_null() || !protocols.empty());
}

ReadObject read_cluster(const json& object) {
    ReadObject out{.object = object};
    json& spec = out.object["spec"];
    const std::string tier = text(spec, "tier");
    const json& subject = member(spec, "subject");
    const json& pods = member(subject, "pods");
    if ((tier != "Admin" && tier != "Baseline") || !within(member(spec, "priority"), 0, 1000) ||
        !only(subject, {"namespaces", "pods"}) || !filled(subject) ||
        !good_labels(member(subject, "namespaces")) ||
        !only(pods, {"namespaceSelector", "podSelector"}) ||
        !good_labels(member(pods, "namespaceSelector")) ||
        !good_labels(member(pods, "podSelector"))) {
        out.reading = Reading::Refused;
        out.problems = true;
        return out;
    }
    const bool whole = only(spec, {"tier", "priority", "subject", "ingress", "egress"});
    for (const bool ingress : {true, false}) {
        const char* list = ingress ? "ingress" : "egress";
        if (!whole) {
            spec[list] = deny_all();
            out.problems = true;
            continue;
        }
        if (!spec.contains(list)) {
            continue;
        }
        for (json& rule : spec[list]) {
            if (!good_cluster_rule(rule, ingress)) {
                rule = text(rule, "action") == "Accept" ? nothing() : deny_all()[0];
                out.problems = true;
            }
        }
    }
    return out;
}

} // namespace

ReadObject read_object(const json& object) {
    const std::string kind = text(object, "kind");
    const json& spec = member(object, "spec");
    const std::string ns = text(member(object, "metadata"), "namespace");
    const bool kubernetes = text(object, "apiVersion").starts_with("networking.k8s.io");
    if (kind == "ClusterNetworkPolicy") {
        return read_cluster(object);
    }
    if (kind == "StagedKubernetesNetworkPolicy" || (kind == "NetworkPolicy" && kubernetes)) {
        return read_kubernetes(object, !kubernetes);
    }
    if (kind.ends_with("NetworkPolicy")) {
        return read_calico(object, ns, kind.ends_with("GlobalNetworkPolicy"),
                           kind.starts_with("Staged"));
    }
    ReadObject out{.object = object};
    if (kind.ends_with("NetworkSet") && filled(member(spec, "nets"))) {
        json nets = json::array();
        std::ranges::copy_if(spec["nets"], std::back_inserter(nets), is_cidr);
        out.problems = nets.size() != spec["nets"].size();
        out.reading = out.problems ? Reading::Unread : Reading::Whole;
        out.object["spec"]["nets"] = nets;
    } else if (kind == "Tier") {
        const json& order = member(spec, "order");
        const std::string action = text(spec, "defaultAction");
        if (!order.is_null() && !order.is_number()) {
            out.reading = Reading::Refused;
            out.problems = true;
        } else if (!action.empty() && action != "Pass" && action != "Deny") {
            out.reading = Reading::Unread;
            out.problems = true;
            out.object["spec"]["defaultAction"] = "Deny";
        }
    }
    return out;
}

} // namespace manx::oracle
