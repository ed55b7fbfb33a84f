// SPDX-License-Identifier: Apache-2.0
#include "agent/api/k8s_policy.h"

#include "agent/api/policy_reader.h"

#include <algorithm>
#include <map>

namespace manx::api {

namespace {

constexpr double kOrder = 1000;

Selector kubernetes_pods() {
    return Selector::equals(kOrchestratorLabel, "k8s");
}

// The ports of a rule by protocol; no entry at all: every protocol.
std::map<uint8_t, PortMatch> read_ports(const Cursor& list) {
    std::map<uint8_t, PortMatch> out;
    std::map<uint8_t, bool> any_port;
    for (const auto& item : list.items()) {
        item.only({"protocol", "port", "endPort"});
        const auto named = item.at("protocol");
        const auto read = read_protocol(named);
        const uint8_t protocol = read.value_or(kProtocolTcp);
        PortMatch& ports = out[protocol];
        const auto port = item.at("port");
        const auto end = item.at("endPort");
        if (!port.present()) {
            any_port[protocol] = true;
            if (end.present()) {
                end.wrong("expected a port with it");
            }
        } else if (port.value().is_string()) {
            ports.names.push_back(port.text());
            if (end.present()) {
                end.wrong("expected a port that is a number with it");
            }
        } else if (const auto first = port.integer(1, 65535)) {
            const auto last = end.present() ? end.integer(*first, 65535) : first;
            ports.ranges.push_back(
                {static_cast<uint16_t>(*first), static_cast<uint16_t>(last.value_or(*first))});
        }
    }
    for (auto& [protocol, ports] : out) {
        if (any_port[protocol]) {
            ports = {};
        }
        normalize(ports);
    }
    return out;
}

std::optional<EntityMatch> read_peer(const Cursor& peer, const std::string& ns) {
    peer.only({"podSelector", "namespaceSelector", "ipBlock"});
    const auto pods = peer.at("podSelector");
    const auto namespaces = peer.at("namespaceSelector");
    const auto block = peer.at("ipBlock");
    EntityMatch out;
    if (block.present()) {
        block.only({"cidr", "except"});
        if (pods.present() || namespaces.present()) {
            block.wrong("expected no podSelector or namespaceSelector with it");
        }
        if (const auto cidr = read_cidr(block.at("cidr"))) {
            out.nets.push_back(*cidr);
        }
        for (const auto& item : block.at("except").items()) {
            if (const auto cidr = read_cidr(item)) {
                out.not_nets.push_back(*cidr);
            }
        }
        return out;
    }
    if (!pods.present() && !namespaces.present()) {
        peer.wrong("expected podSelector, namespaceSelector or ipBlock");
        return std::nullopt;
    }
    std::vector<Selector> terms{
        namespaces.present()
            ? read_label_selector(namespaces).inherited(kNamespacePrefix, kNamespaceLabel)
            : Selector::equals(kNamespaceLabel, ns)};
    terms.push_back(kubernetes_pods());
    terms.push_back(read_label_selector(pods));
    out.selector = Selector::all_of(terms);
    return out;
}

void read_rules(const Cursor& list, const std::string& ns, Direction direction,
                std::vector<PolicyRule>& out) {
    const bool ingress = direction == Direction::Ingress;
    const size_t before = list.problems().all.size();
    uint16_t index = 0;
    for (const auto& item : list.items()) {
        item.only({"ports", ingress ? "from" : "to"});
        const auto ports = read_ports(item.at("ports"));
        const auto peer_list = item.at(ingress ? "from" : "to");
        std::vector<EntityMatch> peers;
        for (const auto& one : peer_list.items()) {
            if (auto peer = read_peer(one, ns)) {
                peers.push_back(*std::move(peer));
            }
        }
        if (!peer_list.present() || peer_list.items().empty()) {
            peers.emplace_back();
        }
        const auto add = [&](std::optional<uint8_t> protocol, const PortMatch& match) {
            for (const auto& peer : peers) {
                PolicyRule rule{.action = Action::Allow, .protocol = protocol, .index = index};
                (ingress ? rule.source : rule.destination) = peer;
                rule.destination.ports = match;
                out.push_back(std::move(rule));
            }
        };
        if (ports.empty()) {
            add(std::nullopt, {});
        }
        for (const auto& [protocol, match] : ports) {
            add(protocol, match);
        }
        ++index;
    }
    if (list.problems().all.size() != before) {
        isolate(out, false);
    }
}

} // namespace

Result<Policy> parse_k8s_policy(Kind kind, const nlohmann::json& object) {
    TRY_ASSIGN(const PolicyName id, read_policy_name(kind, object));
    Policy policy;
    policy.kind = kind;
    policy.ns = id.ns;
    policy.name = id.name;
    policy.order = kOrder;
    ReadProblems problems;
    const Cursor spec = Cursor(&object, "", problems).at("spec");
    if (spec.present() && !spec.value().is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: spec: expected an object", policy.text()));
    }
    if (kind == Kind::StagedKubernetesNetworkPolicy) {
        spec.only({"podSelector", "policyTypes", "ingress", "egress", "stagedAction"});
        policy.staged = true;
        const std::string action = spec.at("stagedAction").text();
        policy.ignored = !action.empty() && action != "Set";
    } else {
        spec.only({"podSelector", "policyTypes", "ingress", "egress"});
    }
    const bool odd = !problems.all.empty();
    policy.subject =
        Selector::all_of({Selector::equals(kNamespaceLabel, policy.ns), kubernetes_pods(),
                          read_label_selector(spec.at("podSelector"))});
    if (!odd && !problems.all.empty()) {
        if (policy.staged) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: {}", policy.text(), problems.all.front()));
        }
        policy.subject_unread = true;
        policy.subject =
            Selector::all_of({Selector::equals(kNamespaceLabel, policy.ns), kubernetes_pods()});
    }
    const auto types = spec.at("policyTypes");
    policy.ingress = types.items().empty();
    for (const auto& item : types.items()) {
        const std::string type = item.text();
        policy.ingress |= type != "Egress";
        policy.egress |= type != "Ingress";
        if (type != "Ingress" && type != "Egress") {
            item.wrong("expected Ingress or Egress");
        }
    }
    const bool broken = !problems.all.empty();
    read_rules(spec.at("ingress"), policy.ns, Direction::Ingress, policy.ingress_rules);
    read_rules(spec.at("egress"), policy.ns, Direction::Egress, policy.egress_rules);
    if (broken) {
        isolate(policy.ingress_rules, false);
        isolate(policy.egress_rules, false);
    }
    policy.problems = std::move(problems.all);
    return policy;
}

} // namespace manx::api
