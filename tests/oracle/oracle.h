// SPDX-License-Identifier: Apache-2.0
// A second opinion on network policy: walks tiers, policies and rules per packet, straight from the
// objects' JSON. Naive on purpose, and independent: it shares nothing with agent/calc or agent/api,
// so that a misreading on one side shows.
#pragma once

#include "base/ip.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manx::oracle {

using Labels = std::map<std::string, std::string>;

// What has labels and addresses.
struct Thing {
    Labels labels;
    Labels ns_labels;
    Labels account_labels;
    std::string ns; // empty: none
    std::string name;
    std::string account;
    std::string node;
    bool pod = false;
    std::vector<Cidr> nets;

    struct Port {
        std::string name;
        int protocol = 6;
        int number = 0;
    };

    std::vector<Port> ports;
};

struct Query {
    IpAddress from;
    IpAddress to;
    int protocol = 6;
    int source_port = 40000;
    int port = 0; // ICMP: type << 8 | code
};

struct SideAnswer {
    bool allow = true;
    std::string rule;     // "NetworkPolicy ns/name ingress[2]", or what decided where no rule did
    bool by_rule = false; // a rule, or a tier's default action
    bool staged = false;  // by a staged policy, or a tier in which there is one
    bool log = false;     // a Log rule matched on the way
};

struct Answer {
    SideAnswer egress;
    SideAnswer ingress;

    [[nodiscard]] bool allow() const { return egress.allow && ingress.allow; }
};

class World {
public:
    void add(const nlohmann::json& object);
    // After the last add().
    void prepare();

    [[nodiscard]] Answer ask(const Query& query) const;
    // Of the pod "ns/name" in the family.
    [[nodiscard]] std::optional<IpAddress> pod_address(const std::string& pod, Family family) const;
    // The judgement of one side at a pod; staged: as if staged policies were enforced.
    [[nodiscard]] SideAnswer judge(const Thing& pod, bool ingress, const Query& query,
                                   bool staged = false) const;
    [[nodiscard]] const Thing* pod_at(const IpAddress& address) const;
    // An address of the node's own.
    [[nodiscard]] bool is_host(const std::string& node, const IpAddress& address) const;

    // Evaluates a selector without parsing it into anything; nullopt where it makes no sense.
    static std::optional<bool> selects(const std::string& text, const Labels& labels, bool all,
                                       bool global);

private:
    struct PolicyEntry {
        std::string kind;  // as Felix names it
        std::string title; // as the object does
        std::string ns;
        std::string name;
        std::string tier;
        double order = 0;
        bool staged = false;
        nlohmann::json spec;
    };

    enum class Outcome { NoMatch, Allow, Deny, Pass };

    [[nodiscard]] bool applies(const PolicyEntry& policy, const Thing& pod, bool ingress) const;
    [[nodiscard]] Outcome walk(const PolicyEntry& policy, bool ingress, const Query& query,
                               SideAnswer& answer) const;
    [[nodiscard]] bool calico_rule(const nlohmann::json& rule, const std::string& ns,
                                   const Query& query) const;
    [[nodiscard]] bool calico_entity(const nlohmann::json& entity, const std::string& ns,
                                     const IpAddress& address, int port, int protocol,
                                     bool source) const;
    [[nodiscard]] bool kubernetes_rule(const nlohmann::json& rule, const std::string& ns,
                                       bool ingress, const Query& query) const;
    [[nodiscard]] bool cluster_rule(const nlohmann::json& rule, bool ingress,
                                    const Query& query) const;
    [[nodiscard]] bool has_port(const IpAddress& address, const std::string& name, int protocol,
                                int port, const std::optional<nlohmann::json>& entity,
                                const std::string& ns) const;

    std::vector<nlohmann::json> objects_;
    std::vector<Thing> things_;
    std::vector<PolicyEntry> policies_;

    struct TierEntry {
        double order = 0;
        bool pass = false;
    };

    std::map<std::string, TierEntry> tiers_;

    struct ServicePort {
        IpAddress address;
        int protocol = 6;
        int port = 0;
    };

    std::map<std::string, std::vector<ServicePort>> services_;  // "ns/name"
    std::map<std::string, std::vector<IpAddress>> service_ips_; // likewise
    std::map<std::string, std::vector<IpAddress>> nodes_;
};

} // namespace manx::oracle
