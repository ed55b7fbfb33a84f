// SPDX-License-Identifier: Apache-2.0
#include "agent/api/cluster_policy.h"

#include "agent/api/policy_reader.h"

#include <algorithm>

namespace manx::api {

namespace {

constexpr int64_t kMaxPriority = 1000;

struct ProtocolMatch {
    std::optional<uint8_t> protocol{};
    PortMatch ports{};
};

Selector selected_pods(const Cursor& pods) {
    pods.only({"namespaceSelector", "podSelector"});
    return Selector::all_of({read_label_selector(pods.at("namespaceSelector"))
                                 .inherited(kNamespacePrefix, kNamespaceLabel),
                             Selector::equals(kOrchestratorLabel, "k8s"),
                             read_label_selector(pods.at("podSelector"))});
}

Selector selected_namespaces(const Cursor& namespaces) {
    return Selector::all_of(
        {read_label_selector(namespaces).inherited(kNamespacePrefix, kNamespaceLabel),
         Selector::equals(kOrchestratorLabel, "k8s")});
}

std::optional<EntityMatch> read_peer(const Cursor& peer, bool ingress) {
    if (ingress) {
        peer.only({"namespaces", "pods"});
    } else {
        peer.only({"namespaces", "pods", "networks"});
    }
    EntityMatch out;
    if (peer.at("namespaces").present()) {
        out.selector = selected_namespaces(peer.at("namespaces"));
    } else if (peer.at("pods").present()) {
        out.selector = selected_pods(peer.at("pods"));
    } else if (!ingress && peer.at("networks").present()) {
        for (const auto& item : peer.at("networks").items()) {
            if (const auto cidr = read_cidr(item)) {
                out.nets.push_back(*cidr);
            }
        }
        if (out.nets.empty()) {
            return std::nullopt;
        }
    } else {
        peer.wrong(ingress ? "expected namespaces or pods"
                           : "expected namespaces, pods or networks");
        return std::nullopt;
    }
    return out;
}

// All of a rule's protocols, one match each; ports that have a name exist for every protocol.
std::vector<ProtocolMatch> read_protocols(const Cursor& list) {
    std::vector<ProtocolMatch> out;
    for (const auto& item : list.items()) {
        item.only({"tcp", "udp", "sctp", "destinationNamedPort"});
        const std::string name = item.at("destinationNamedPort").text();
        if (!name.empty()) {
            for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp, kProtocolSctp}) {
                out.push_back({protocol, {.ranges = {}, .names = {name}}});
            }
            continue;
        }
        bool known = false;
        for (const auto& [word, protocol] :
             {std::pair{"tcp", kProtocolTcp}, std::pair{"udp", kProtocolUdp},
              std::pair{"sctp", kProtocolSctp}}) {
            const auto match = item.at(word);
            if (!match.present()) {
                continue;
            }
            known = true;
            match.only({"destinationPort"});
            ProtocolMatch one{protocol, {}};
            const auto port = match.at("destinationPort");
            port.only({"number", "range"});
            if (port.at("number").present()) {
                if (const auto number = port.at("number").integer(1, 65535)) {
                    const auto value = static_cast<uint16_t>(*number);
                    one.ports.ranges.push_back({value, value});
                }
            } else if (port.at("range").present()) {
                const auto range = port.at("range");
                range.only({"start", "end"});
                const auto start = range.at("start").integer(1, 65535);
                const auto end = range.at("end").integer(start.value_or(1), 65535);
                if (start && end) {
                    one.ports.ranges.push_back(
                        {static_cast<uint16_t>(*start), static_cast<uint16_t>(*end)});
                } else {
                    range.wrong("expected start and end");
                }
            } else if (port.present()) {
                port.wrong("expected number or range");
            }
            out.push_back(std::move(one));
        }
        if (!known) {
            item.wrong("expected tcp, udp, sctp or destinationNamedPort");
        }
    }
    if (list.present() && out.empty()) {
        list.wrong("expected at least one protocol");
    }
    return out;
}

Action read_action(const Cursor& cursor) {
    const std::string action = cursor.text();
    if (action == "Accept") {
        return Action::Allow;
    }
    if (action == "Pass") {
        return Action::Pass;
    }
    if (action != "Deny") {
        cursor.wrong("expected Accept, Deny or Pass");
    }
    return Action::Deny;
}

void read_rule(const Cursor& item, bool ingress, uint16_t index, std::vector<PolicyRule>& out) {
    const size_t before = item.problems().all.size();
    item.only({"name", "action", "protocols", ingress ? "from" : "to"});
    const Action action = read_action(item.at("action"));
    const std::string name = item.at("name").text();
    const auto peer_list = item.at(ingress ? "from" : "to");
    std::vector<EntityMatch> peers;
    for (const auto& one : peer_list.items()) {
        if (auto peer = read_peer(one, ingress)) {
            peers.push_back(*std::move(peer));
        }
    }
    if (peers.empty()) {
        peer_list.wrong("expected at least one peer");
    }
    auto protocols = read_protocols(item.at("protocols"));
    if (item.problems().all.size() != before) {
        if (action != Action::Allow) {
            out.push_back({.action = Action::Deny, .name = name, .index = index});
        }
        return;
    }
    if (protocols.empty()) {
        protocols.emplace_back();
    }
    for (const auto& match : protocols) {
        for (const auto& peer : peers) {
            PolicyRule rule{
                .action = action, .protocol = match.protocol, .name = name, .index = index};
            (ingress ? rule.source : rule.destination) = peer;
            rule.destination.ports = match.ports;
            out.push_back(std::move(rule));
        }
    }
}

void read_rules(const Cursor& list, bool ingress, std::vector<PolicyRule>& out) {
    uint16_t index = 0;
    for (const auto& item : list.items()) {
        read_rule(item, ingress, index++, out);
    }
}

} // namespace

Result<Policy> parse_cluster_policy(const nlohmann::json& object) {
    TRY_ASSIGN(const PolicyName id, read_policy_name(Kind::ClusterNetworkPolicy, object));
    Policy policy;
    policy.kind = Kind::ClusterNetworkPolicy;
    policy.name = id.name;
    ReadProblems problems;
    const Cursor spec = Cursor(&object, "", problems).at("spec");
    const std::string tier = spec.at("tier").text();
    if (tier == "Admin") {
        policy.tier = "kube-admin";
    } else if (tier == "Baseline") {
        policy.tier = "kube-baseline";
    } else {
        spec.at("tier").wrong("expected Admin or Baseline");
    }
    if (const auto priority = spec.at("priority").integer(0, kMaxPriority)) {
        policy.order = static_cast<double>(*priority);
    } else if (!spec.at("priority").present()) {
        spec.at("priority").wrong("expected an integer from 0 to 1000");
    }
    const auto subject = spec.at("subject");
    subject.only({"namespaces", "pods"});
    if (subject.at("namespaces").present()) {
        policy.subject = selected_namespaces(subject.at("namespaces"));
    } else if (subject.at("pods").present()) {
        policy.subject = selected_pods(subject.at("pods"));
    } else {
        subject.wrong("expected namespaces or pods");
    }
    if (!problems.all.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: {}", policy.text(), problems.all.front()));
    }
    spec.only({"tier", "priority", "subject", "ingress", "egress"});
    const bool broken = !problems.all.empty();
    read_rules(spec.at("ingress"), true, policy.ingress_rules);
    read_rules(spec.at("egress"), false, policy.egress_rules);
    policy.ingress = !spec.at("ingress").items().empty();
    policy.egress = !spec.at("egress").items().empty();
    if (broken) {
        policy.ingress = policy.egress = true;
        isolate(policy.ingress_rules, true);
        isolate(policy.egress_rules, true);
    }
    policy.problems = std::move(problems.all);
    return policy;
}

} // namespace manx::api
