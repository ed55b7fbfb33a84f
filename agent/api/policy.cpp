// SPDX-License-Identifier: Apache-2.0
#include "agent/api/policy.h"

#include "agent/api/cluster_policy.h"
#include "agent/api/k8s_policy.h"
#include "agent/api/network_set.h"
#include "agent/api/policy_reader.h"
#include "agent/api/tier.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace manx::api {

namespace {

struct ProtocolWord {
    std::string_view name;
    uint8_t number;
};

constexpr std::array kProtocols{
    ProtocolWord{"TCP", kProtocolTcp},   ProtocolWord{"UDP", kProtocolUdp},
    ProtocolWord{"ICMP", kProtocolIcmp}, ProtocolWord{"ICMPv6", kProtocolIcmp6},
    ProtocolWord{"SCTP", kProtocolSctp}, ProtocolWord{"UDPLite", kProtocolUdpLite},
};

bool has_ports(uint8_t protocol) {
    return protocol == kProtocolTcp || protocol == kProtocolUdp || protocol == kProtocolSctp;
}

std::optional<uint16_t> port_number(std::string_view text) {
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return port;
}

// An integer, "a:b", or the name of a port.
PortMatch read_ports(const Cursor& list) {
    PortMatch out;
    for (const auto& item : list.items()) {
        if (item.value().is_number()) {
            if (const auto port = item.integer(0, 65535)) {
                const auto number = static_cast<uint16_t>(*port);
                out.ranges.push_back({number, number});
            }
            continue;
        }
        const std::string text = item.text();
        const size_t colon = text.find(':');
        const auto first = port_number(std::string_view(text).substr(0, colon));
        if (colon == std::string::npos && first) {
            out.ranges.push_back({*first, *first});
        } else if (colon == std::string::npos &&
                   text.find_first_not_of("0123456789") != std::string::npos) {
            out.names.push_back(text);
        } else {
            const auto last = colon == std::string::npos
                                  ? std::nullopt
                                  : port_number(std::string_view(text).substr(colon + 1));
            if (!first || !last || *first > *last) {
                item.wrong("expected a port, a range \"first:last\" or the name of a port");
            } else {
                out.ranges.push_back({*first, *last});
            }
        }
    }
    normalize(out);
    return out;
}

std::optional<IcmpMatch> read_icmp(const Cursor& cursor, std::optional<uint8_t> protocol) {
    if (!cursor.present()) {
        return std::nullopt;
    }
    cursor.only({"type", "code"});
    const auto type = cursor.at("type").integer(0, 255);
    const auto code = cursor.at("code").integer(0, 255);
    if (!protocol || (*protocol != kProtocolIcmp && *protocol != kProtocolIcmp6)) {
        cursor.wrong("expected protocol ICMP or ICMPv6 with it");
    }
    if (!type) {
        if (code) {
            cursor.at("code").wrong("expected a type with it");
        }
        return std::nullopt;
    }
    IcmpMatch match{.type = static_cast<uint8_t>(*type), .code = std::nullopt};
    if (code) {
        match.code = static_cast<uint8_t>(*code);
    }
    return match;
}

// Reads the rules of one policy. ns: of a NetworkPolicy, whose peers are in it unless a
// namespaceSelector says otherwise; empty for a GlobalNetworkPolicy.
class RuleReader {
public:
    RuleReader(std::string ns, Direction direction) : ns_(std::move(ns)), direction_(direction) {}

    // Sets broken where the rule was not understood.
    PolicyRule read(const Cursor& rule, bool& broken) const {
        const size_t before = rule.problems().all.size();
        rule.only({"action", "ipVersion", "protocol", "notProtocol", "icmp", "notICMP", "http",
                   "metadata", "source", "destination"});
        PolicyRule out;
        read_action(rule.at("action"), out);
        if (const auto version = rule.at("ipVersion").integer(4, 6)) {
            if (*version == 5) {
                rule.at("ipVersion").wrong("expected 4 or 6");
            }
            out.ip_version = *version == 4 ? Family::V4 : Family::V6;
        }
        out.protocol = read_protocol(rule.at("protocol"));
        out.not_protocol = read_protocol(rule.at("notProtocol"));
        out.icmp = read_icmp(rule.at("icmp"), out.protocol);
        out.not_icmp = read_icmp(rule.at("notICMP"), out.protocol);
        if (rule.at("http").present() &&
            (out.action != Action::Allow || (out.protocol && *out.protocol != kProtocolTcp))) {
            rule.at("http").wrong("expected action Allow and protocol TCP with it");
        }
        out.source = read_entity(rule.at("source"), out, Direction::Ingress);
        out.destination = read_entity(rule.at("destination"), out, Direction::Egress);
        const auto annotations = rule.at("metadata").at("annotations");
        if (annotations.present() && annotations.at("name").present()) {
            out.name = annotations.at("name").text();
        }
        broken = rule.problems().all.size() != before;
        return out;
    }

private:
    static void read_action(const Cursor& cursor, PolicyRule& out) {
        const std::string action = cursor.text();
        if (action == "Allow") {
            out.action = Action::Allow;
        } else if (action == "Deny") {
            out.action = Action::Deny;
        } else if (action == "Log") {
            out.action = Action::Log;
        } else if (action == "Pass") {
            out.action = Action::Pass;
        } else {
            cursor.wrong("expected Allow, Deny, Log or Pass");
        }
    }

    EntityMatch read_entity(const Cursor& entity, const PolicyRule& rule,
                            Direction services_in) const {
        EntityMatch out;
        if (!entity.present()) {
            return out;
        }
        entity.only({"nets", "notNets", "selector", "notSelector", "namespaceSelector", "ports",
                     "notPorts", "serviceAccounts", "services"});
        for (const auto& item : entity.at("nets").items()) {
            if (const auto cidr = read_cidr(item)) {
                out.nets.push_back(*cidr);
            }
        }
        for (const auto& item : entity.at("notNets").items()) {
            if (const auto cidr = read_cidr(item)) {
                out.not_nets.push_back(*cidr);
            }
        }
        out.ports = read_ports(entity.at("ports"));
        out.not_ports = read_ports(entity.at("notPorts"));
        if ((!out.ports.empty() || !out.not_ports.empty()) &&
            (!rule.protocol || !has_ports(*rule.protocol))) {
            entity.at("ports").wrong("expected protocol TCP, UDP or SCTP with ports");
        }
        read_selectors(entity, out);
        read_service(entity, services_in, out);
        return out;
    }

    void read_selectors(const Cursor& entity, EntityMatch& out) const {
        const auto given = [&](const char* name) { return !entity.at(name).text().empty(); };
        const auto accounts = entity.at("serviceAccounts");
        accounts.only({"names", "selector"});
        std::vector<std::string> names;
        for (const auto& name : accounts.at("names").items()) {
            names.push_back(name.text());
        }
        const bool by_account = !names.empty() || !accounts.at("selector").text().empty();
        std::vector<Selector> terms;
        if (given("namespaceSelector")) {
            terms.push_back(entity.at("namespaceSelector")
                                .selector()
                                .inherited(kNamespacePrefix, kNamespaceLabel));
        } else if (!ns_.empty() && (given("selector") || given("notSelector") || by_account)) {
            terms.push_back(Selector::equals(kNamespaceLabel, ns_));
        }
        if (!names.empty()) {
            terms.push_back(Selector::in(kServiceAccountLabel, std::move(names)));
        }
        if (!accounts.at("selector").text().empty()) {
            terms.push_back(accounts.at("selector")
                                .selector()
                                .inherited(kServiceAccountPrefix, kServiceAccountLabel));
        }
        if (given("selector")) {
            terms.push_back(entity.at("selector").selector());
            if (terms.back().uses_global()) {
                entity.at("selector").wrong("global() is for namespaceSelector only");
            }
        }
        if (!terms.empty()) {
            out.selector = Selector::all_of(terms);
        }
        if (given("notSelector")) {
            out.not_selector = entity.at("notSelector").selector();
        }
    }

    void read_service(const Cursor& entity, Direction services_in, EntityMatch& out) const {
        const auto services = entity.at("services");
        if (!services.present()) {
            return;
        }
        services.only({"name", "namespace"});
        out.service = services.at("name").text();
        out.service_ns = services.at("namespace").text();
        if (out.service_ns.empty()) {
            out.service_ns = ns_;
        }
        if (out.service.empty()) {
            services.at("name").wrong("expected the name of a Service");
        } else if (out.service_ns.empty()) {
            services.at("namespace").wrong("expected a namespace");
        } else if (direction_ != services_in) {
            services.wrong("expected in the source of ingress or the destination of egress rules");
        } else if (out.selector || out.not_selector || !out.nets.empty() || !out.not_nets.empty()) {
            services.wrong("expected no selectors or nets with it");
        } else if (services_in == Direction::Egress &&
                   (!out.ports.empty() || !out.not_ports.empty())) {
            services.wrong("expected no ports with it: they are the Service's");
        }
    }

    std::string ns_;
    Direction direction_;
};

void read_rules(const Cursor& list, const std::string& ns, Direction direction,
                std::vector<PolicyRule>& out) {
    const RuleReader reader(ns, direction);
    const size_t before = list.problems().all.size();
    bool could_deny = false;
    uint16_t index = 0;
    for (const auto& item : list.items()) {
        bool broken = false;
        PolicyRule rule = reader.read(item, broken);
        rule.index = index++;
        if (broken) {
            could_deny |= rule.action != Action::Allow;
        } else {
            out.push_back(std::move(rule));
        }
    }
    size_t source_ports = 0;
    for (const auto& rule : out) {
        const auto& ports = rule.source.ports;
        const auto& not_ports = rule.source.not_ports;
        source_ports += ports.ranges.size() + ports.names.size() + not_ports.ranges.size() +
                        not_ports.names.size();
    }
    if (source_ports > kMaxSourcePorts) {
        list.wrong(fmt::format("expected at most {} separate source ports in all rules, found {}",
                               kMaxSourcePorts, source_ports));
        could_deny = true; // none of the rules is left
    }
    if (list.problems().all.size() != before) {
        isolate(out, could_deny || out.size() == index);
    }
}

void read_types(const Cursor& types, Policy& policy) {
    // Old objects without types: both directions, as Felix reads them.
    policy.ingress = policy.egress = !types.present() || types.items().empty();
    for (const auto& item : types.items()) {
        const std::string type = item.text();
        if (type == "Ingress") {
            policy.ingress = true;
        } else if (type == "Egress") {
            policy.egress = true;
        } else {
            item.wrong("expected Ingress or Egress");
            policy.ingress = policy.egress = true;
        }
    }
}

void read_staged_action(const Cursor& cursor, Policy& policy) {
    const std::string action = cursor.text();
    if (action.empty() || action == "Set") {
        return;
    }
    policy.ignored = true;
    if (action != "Delete" && action != "Learn" && action != "Ignore") {
        cursor.wrong("expected Set, Delete, Learn or Ignore");
    }
}

std::string_view felix_kind(Kind kind) {
    return kind == Kind::ClusterNetworkPolicy ? "KubernetesClusterNetworkPolicy" : title(kind);
}

} // namespace

std::string_view to_string(Action action) {
    constexpr std::array<std::string_view, 4> kNames{"allow", "deny", "log", "pass"};
    return kNames.at(static_cast<size_t>(action));
}

std::string_view to_string(Direction direction) {
    return direction == Direction::Ingress ? "ingress" : "egress";
}

std::optional<uint8_t> protocol_number(std::string_view text) {
    for (const auto& [name, number] : kProtocols) {
        if (std::ranges::equal(text, name,
                               [](char a, char b) { return (a | 0x20) == (b | 0x20); })) {
            return number;
        }
    }
    const auto number = port_number(text);
    if (!number || *number == 0 || *number > 255) {
        return std::nullopt;
    }
    return static_cast<uint8_t>(*number);
}

std::string protocol_name(uint8_t protocol) {
    const auto* found = std::ranges::find(kProtocols, protocol, &ProtocolWord::number);
    return found == kProtocols.end() ? std::to_string(protocol) : std::string(found->name);
}

std::string Policy::text() const {
    return fmt::format("{} {}{}{}", title(kind), ns, ns.empty() ? "" : "/", name);
}

std::string Policy::tie() const {
    return fmt::format("{}/{}/{}", name, ns, felix_kind(kind));
}

Result<Policy> Policy::from_json(Kind kind, const nlohmann::json& object) {
    TRY_ASSIGN(const PolicyName id, read_policy_name(kind, object));
    Policy policy;
    policy.kind = kind;
    policy.ns = id.ns;
    policy.name = id.name;
    policy.staged = kind == Kind::StagedNetworkPolicy || kind == Kind::StagedGlobalNetworkPolicy;
    const bool global =
        kind == Kind::GlobalNetworkPolicy || kind == Kind::StagedGlobalNetworkPolicy;

    ReadProblems problems;
    const Cursor root(&object, "", problems);
    const Cursor spec = root.at("spec");
    if (spec.present() && !spec.value().is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: spec: expected an object", policy.text()));
    }

    // A cluster-wide policy means nothing without its subject: refused as a whole.
    std::vector<Selector> subject;
    if (global) {
        if (!spec.at("namespaceSelector").text().empty()) {
            subject.push_back(spec.at("namespaceSelector")
                                  .selector()
                                  .inherited(kNamespacePrefix, kNamespaceLabel));
        }
    } else {
        subject.push_back(Selector::equals(kNamespaceLabel, policy.ns));
    }
    subject.push_back(spec.at("selector").selector());
    if (!spec.at("serviceAccountSelector").text().empty()) {
        subject.push_back(spec.at("serviceAccountSelector")
                              .selector()
                              .inherited(kServiceAccountPrefix, kServiceAccountLabel));
    }
    policy.subject = Selector::all_of(subject);
    if (!spec.at("tier").text().empty()) {
        policy.tier = spec.at("tier").text();
    }
    policy.order = spec.at("order").number();
    if (!problems.all.empty() && (global || policy.staged)) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: {}", policy.text(), problems.all.front()));
    }
    if (!problems.all.empty()) {
        // Whom it protects is not known; that it is somebody of this namespace is.
        policy.subject_unread = true;
        policy.subject = Selector::equals(kNamespaceLabel, policy.ns);
    }

    if (global) {
        spec.only({"tier", "order", "ingress", "egress", "selector", "types",
                   "serviceAccountSelector", "performanceHints", "namespaceSelector", "doNotTrack",
                   "preDNAT", "applyOnForward", "stagedAction"});
        policy.do_not_track = spec.at("doNotTrack").flag();
        policy.pre_dnat = spec.at("preDNAT").flag();
        policy.apply_on_forward = spec.at("applyOnForward").flag();
    } else {
        spec.only({"tier", "order", "ingress", "egress", "selector", "types",
                   "serviceAccountSelector", "performanceHints", "stagedAction"});
    }
    if (policy.staged) {
        read_staged_action(spec.at("stagedAction"), policy);
    }
    read_types(spec.at("types"), policy);
    const bool broken = !problems.all.empty();
    read_rules(spec.at("ingress"), policy.ns, Direction::Ingress, policy.ingress_rules);
    read_rules(spec.at("egress"), policy.ns, Direction::Egress, policy.egress_rules);
    if (broken) {
        // A field of the whole policy was not understood: it could mean anything.
        isolate(policy.ingress_rules, true);
        isolate(policy.egress_rules, true);
    }
    policy.problems = std::move(problems.all);
    return policy;
}

bool is_policy(Kind kind) {
    switch (kind) {
    case Kind::NetworkPolicy:
    case Kind::GlobalNetworkPolicy:
    case Kind::StagedNetworkPolicy:
    case Kind::StagedGlobalNetworkPolicy:
    case Kind::StagedKubernetesNetworkPolicy:
    case Kind::K8sNetworkPolicy:
    case Kind::ClusterNetworkPolicy:
        return true;
    default:
        return false;
    }
}

std::optional<std::string> name_of_older_form(Kind kind, const std::string& stored,
                                              const nlohmann::json& object) {
    if (!is_policy(kind) || !stored.starts_with("default.")) {
        return std::nullopt;
    }
    const auto id = read_policy_name(kind, object);
    return id && id->name != stored ? std::optional(id->name) : std::nullopt;
}

Result<Policy> parse_policy(Kind kind, const nlohmann::json& object) {
    switch (kind) {
    case Kind::K8sNetworkPolicy:
    case Kind::StagedKubernetesNetworkPolicy:
        return parse_k8s_policy(kind, object);
    case Kind::ClusterNetworkPolicy:
        return parse_cluster_policy(object);
    default:
        return Policy::from_json(kind, object);
    }
}

namespace {

Result<void> without_problems(const std::string& subject,
                              const std::vector<std::string>& problems) {
    if (problems.empty()) {
        return {};
    }
    return fail(ErrorKind::ConfigInvalid, fmt::format("{}: {}", subject, problems.front()));
}

} // namespace

Result<void> validate_policy(Kind kind, const nlohmann::json& object) {
    if (kind == Kind::Tier) {
        TRY_ASSIGN(const Tier tier, Tier::from_json(object));
        return without_problems("Tier " + tier.name, tier.problems);
    }
    if (kind == Kind::NetworkSet || kind == Kind::GlobalNetworkSet) {
        TRY_ASSIGN(const NetworkSet set, NetworkSet::from_json(kind, object));
        return without_problems(set.text(), set.problems);
    }
    TRY_ASSIGN(const Policy policy, parse_policy(kind, object));
    return without_problems(policy.text(), policy.problems);
}

} // namespace manx::api
