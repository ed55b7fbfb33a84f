// SPDX-License-Identifier: Apache-2.0
// Network policy of every kind in one form: Calico's NetworkPolicy and GlobalNetworkPolicy, their
// staged kinds, and what Kubernetes' NetworkPolicy (k8s_policy.h) and ClusterNetworkPolicy
// (cluster_policy.h) become. Selectors are final: namespace and service account terms are folded
// in, over the labels pcns.* (namespace), pcsa.* (service account) and projectcalico.org/*.
//
// An object is either refused (from_json fails: it says nothing that could be applied, or it would
// have to isolate the cluster; the caller keeps the last good state), or taken. A part of it that
// is not understood (an unknown field, a value of the future) is named in `problems`, and the
// policy then isolates what it selects: no rule of the direction concerned allows anything.
#pragma once

#include "agent/api/kind.h"
#include "agent/api/selector.h"
#include "base/ip.h"

#include <nlohmann/json_fwd.hpp>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manx::api {

inline constexpr std::string_view kNamespaceLabel = "projectcalico.org/namespace";
inline constexpr std::string_view kOrchestratorLabel = "projectcalico.org/orchestrator";
inline constexpr std::string_view kServiceAccountLabel = "projectcalico.org/serviceaccount";
inline constexpr std::string_view kNamespacePrefix = "pcns.";
inline constexpr std::string_view kServiceAccountPrefix = "pcsa.";

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolIcmp6 = 58;
inline constexpr uint8_t kProtocolSctp = 132;
inline constexpr uint8_t kProtocolUdpLite = 136;

enum class Action : uint8_t { Allow, Deny, Log, Pass };

enum class Direction : uint8_t { Ingress, Egress };

std::string_view to_string(Action action);
std::string_view to_string(Direction direction);

struct PortRange {
    uint16_t first = 0; // inclusive
    uint16_t last = 0;

    auto operator<=>(const PortRange&) const = default;
};

struct PortMatch {
    std::vector<PortRange> ranges{};
    std::vector<std::string> names{}; // of ports that endpoints declare

    [[nodiscard]] bool empty() const { return ranges.empty() && names.empty(); }

    bool operator==(const PortMatch&) const = default;
};

struct IcmpMatch {
    uint8_t type = 0;
    std::optional<uint8_t> code{}; // none: any

    bool operator==(const IcmpMatch&) const = default;
};

// One side of a rule. Everything that is given must hold.
struct EntityMatch {
    std::optional<Selector> selector{}; // known endpoints and network sets; none: anything
    std::optional<Selector> not_selector{};
    std::vector<Cidr> nets{}; // empty: any
    std::vector<Cidr> not_nets{};
    PortMatch ports{};
    PortMatch not_ports{};
    std::string service_ns{}; // with service: the addresses (and ports) behind a Service
    std::string service{};

    bool operator==(const EntityMatch&) const = default;
};

struct PolicyRule {
    Action action = Action::Deny;
    std::optional<Family> ip_version{};
    std::optional<uint8_t> protocol{};
    std::optional<uint8_t> not_protocol{};
    std::optional<IcmpMatch> icmp{};
    std::optional<IcmpMatch> not_icmp{};
    EntityMatch source{};
    EntityMatch destination{};
    std::string name{}; // given by the author, for people
    uint16_t index = 0; // of the rule in the object that it came from

    bool operator==(const PolicyRule&) const = default;
};

// Separate ranges of source ports that the rules of one direction may name, negated ones included:
// every one of them is a search of its own (agent/calc/port_table.h).
inline constexpr size_t kMaxSourcePorts = 4096;

struct Policy {
    Kind kind{};
    std::string ns; // empty for cluster-wide kinds
    std::string name;
    std::string tier = "default";
    std::optional<double> order; // none: after all that have one
    Selector subject;            // of the endpoints that it applies to
    bool ingress = false;        // the directions that it takes part in
    bool egress = false;
    bool staged = false;           // evaluated and counted, not enforced
    bool ignored = false;          // staged with an action that is not evaluated
    bool do_not_track = false;     // GlobalNetworkPolicy and its staged kind
    bool pre_dnat = false;         // "
    bool apply_on_forward = false; // "; for workloads it is in force as without
    // What it selects could not be read: as it stands it isolates its whole namespace, and it is
    // for the caller to keep an earlier state in force instead.
    bool subject_unread = false;
    std::vector<PolicyRule> ingress_rules;
    std::vector<PolicyRule> egress_rules;
    std::vector<std::string> problems; // "field: what was expected"

    // Kinds: NetworkPolicy, GlobalNetworkPolicy and their staged kinds; ConfigInvalid.
    static Result<Policy> from_json(Kind kind, const nlohmann::json& object);

    [[nodiscard]] const std::vector<PolicyRule>& rules(Direction direction) const {
        return direction == Direction::Ingress ? ingress_rules : egress_rules;
    }

    // Never for workloads.
    [[nodiscard]] bool host_only() const { return do_not_track || pre_dnat; }

    [[nodiscard]] bool applies(Direction direction) const {
        return direction == Direction::Ingress ? ingress : egress;
    }

    // "NetworkPolicy ns/name"; Kubernetes' own kind is "KubernetesNetworkPolicy ns/name", as Calico
    // calls it. What decides ties of order is tie().
    [[nodiscard]] std::string text() const;
    [[nodiscard]] std::string tie() const; // name/namespace/kind, as Felix names kinds

    bool operator==(const Policy&) const = default;
};

// A policy kind as a type of its own, for code that reads kinds by type: T::from_json(object).
template <Kind kKind>
struct PolicyOf : Policy {
    static Result<PolicyOf> from_json(const nlohmann::json& object);
};

// The policy kind's own reader: any of the seven kinds that are policies.
Result<Policy> parse_policy(Kind kind, const nlohmann::json& object);

template <Kind kKind>
Result<PolicyOf<kKind>> PolicyOf<kKind>::from_json(const nlohmann::json& object) {
    TRY_ASSIGN(Policy policy, parse_policy(kKind, object));
    return PolicyOf{std::move(policy)};
}

bool is_policy(Kind kind);

// The policy's own name, if the object is stored in Calico's older form, as default.NAME. Where an
// object is stored as NAME too, it is the same policy, and that one speaks for it.
std::optional<std::string> name_of_older_form(Kind kind, const std::string& stored,
                                              const nlohmann::json& object);
// For writing an object: the first problem is an error. Kinds: all policies, Tier, network sets.
Result<void> validate_policy(Kind kind, const nlohmann::json& object);

// "TCP", "6", case does not matter.
std::optional<uint8_t> protocol_number(std::string_view text);
std::string protocol_name(uint8_t protocol);

} // namespace manx::api
