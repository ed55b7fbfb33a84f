// SPDX-License-Identifier: Apache-2.0
// From the objects of the cluster and the workloads of this node to the policy tables. Pure: no
// I/O, no clock. Objects come and go in any order; flush() returns what has to be written so that
// the tables say what the objects say. The cost of a change is that of what it touches.
//
// How it works is in docs/design/policy.md. Threading: one thread.
#pragma once

#include "agent/api/kind.h"
#include "agent/api/policy.h"
#include "agent/calc/rule_registry.h"
#include "agent/calc/table_update.h"
#include "agent/dataplane/local_endpoint.h"
#include "base/ip.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace manx::api {
struct Pod;
struct Namespace;
struct ServiceAccount;
struct Node;
struct Service;
struct EndpointSlice;
struct IpPool;
struct HostEndpoint;
struct NetworkSet;
struct Tier;
} // namespace manx::api

namespace manx::calc {

struct CalculatorOptions {
    std::string node_name;              // a Node of this name is the local host
    uint32_t rule_numbers = MANX_RULES; // entries of manx_rule_hits
    // A policy set of so many entries is looked at again for a default that takes fewer.
    size_t reconsider_entries = 256;
};

// One step of a walk through the policies of an endpoint, for people.
struct TraceStep {
    std::string text; // "tier default", "NetworkPolicy ns/name ingress[0] allow"
    bool matched = false;
};

struct Judgement {
    bool known = true; // the local address is a workload of this node
    bool allow = true;
    bool log = false;
    uint32_t rule = 0;
    std::string reason; // the rule's name, or what decided where no rule did
    std::vector<TraceStep> walk;
};

struct Packet {
    uint8_t protocol = 6;
    uint16_t source_port = 0;
    uint16_t destination_port = 0; // ICMP: type << 8 | code
};

struct CalculatorStats {
    size_t policies = 0;
    size_t active_policies = 0; // that apply to a workload of this node
    size_t matchers = 0;
    size_t classes = 0;
    size_t prefixes = 0;
    size_t sets = 0;
    size_t inverted_sets = 0; // whose default is not that of addresses nobody asks about
    size_t set_entries = 0;
    size_t port_tables = 0;
};

class PolicyCalculator {
public:
    explicit PolicyCalculator(CalculatorOptions options);
    PolicyCalculator(const PolicyCalculator&) = delete;
    PolicyCalculator& operator=(const PolicyCalculator&) = delete;
    ~PolicyCalculator();

    void upsert(const api::Pod& pod);
    void upsert(const api::Namespace& ns);
    void upsert(const api::ServiceAccount& account);
    void upsert(const api::Node& node);
    void upsert(const api::Service& service);
    void upsert(const api::EndpointSlice& slice);
    void upsert(const api::IpPool& pool);
    void upsert(const api::HostEndpoint& endpoint);
    void upsert(const api::NetworkSet& set); // both kinds
    void upsert(const api::Tier& tier);
    void upsert(const api::Policy& policy); // all kinds of policy
    // ns is empty for cluster-scoped kinds. name: the object's own, for policies the v3 name.
    // Removing what is not there does nothing.
    void remove(api::Kind kind, const std::string& ns, const std::string& name);

    void upsert_local(const dataplane::LocalEndpoint& endpoint);
    void remove_local(const std::string& interface);
    // Addresses of this node's own devices, all of them at once.
    void set_host_addresses(std::span<const IpAddress> addresses);

    // What changed since the last call.
    TableUpdate flush();
    // Everything that the tables should hold, as steps into empty tables. After a flush().
    [[nodiscard]] TableUpdate snapshot() const;

    [[nodiscard]] const RuleRegistry& rules() const;
    // Numbers of rules that are gone since the last call: their counters are nobody's.
    std::vector<uint32_t> take_released_rules();
    // Policies ("NetworkPolicy ns/name") that since the last call met the bounds of port_table.h
    // with what else applies to the same workload: their rules with source ports allow nothing
    // there.
    std::vector<std::string> take_too_big();
    [[nodiscard]] CalculatorStats stats() const;

    // How a flow between these addresses is judged at this local address; other is the other side.
    // After a flush(). staged: by the staged policies too, as if they were enforced.
    [[nodiscard]] Judgement judge(const IpAddress& local, api::Direction direction,
                                  const IpAddress& other, const Packet& packet,
                                  bool staged = false) const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace manx::calc
