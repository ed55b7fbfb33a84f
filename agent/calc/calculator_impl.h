// SPDX-License-Identifier: Apache-2.0
// The calculator's state. Objects mark what they touch; flush() works the marks off. Private to
// agent/calc, and implemented by several files, named below.
#pragma once

#include "agent/api/tier.h"
#include "agent/calc/address_table.h"
#include "agent/calc/label_groups.h"
#include "agent/calc/packed_rules.h"
#include "agent/calc/policy_calculator.h"
#include "agent/calc/rule_set.h"

#include <deque>
#include <map>
#include <set>
#include <unordered_set>

namespace manx::calc {

enum class MatcherKind : uint8_t { Selector, Nets, ServicePorts, ServiceAddresses, NamedPort };

struct Matcher {
    MatcherKind kind{};
    api::Selector selector{}; // Selector, NamedPort
    StringId name = 0;        // NamedPort
    uint8_t protocol = 0;     // NamedPort
    std::vector<Cidr> nets{}; // Nets
    SourceId source = 0;      // Nets
    std::string service{};    // "ns/name"
    std::string key{};        // canonical text
    uint32_t users = 0;
    std::vector<uint32_t> sets{}; // live ones whose other side asks for it
};

using PolicyRef = uint32_t;
using SetRef = uint32_t;

inline constexpr SetRef kAllowAll = UINT32_MAX; // MANX_SET_ALLOW

struct PolicyState {
    api::Policy policy; // but its rules
    PackedRules packed;
    std::string tie;
    uint32_t endpoints = 0; // of this node that it applies to
    bool live = false;
    bool compiled = false;
    std::vector<RuleRef> rules[2]; // by Direction
    // Before it changed, until the next flush: a rule that stays is the same rule to the sets.
    std::vector<RuleRef> former[2];
};

struct LocalState;

// Something with labels and addresses.
struct Item {
    GroupId group = 0;
    uint32_t place = 0;                           // among the members of its group
    std::vector<AddressTable::Node*> contributed; // in order of prefixes
    LocalState* local = nullptr;
    bool known = false;    // the object exists
    bool finished = false; // a pod that is: its addresses are nobody's, its endpoint stays judged
    bool partial = false;  // it was never understood but in part
};

struct LocalAddress {
    IpAddress address;
    SetRef sets[2] = {kAllowAll, kAllowAll};   // by Direction
    SetRef staged[2] = {kAllowAll, kAllowAll}; // by Direction
    manx_endpoint written{};
    bool present = false;
};

struct LocalState {
    dataplane::LocalEndpoint endpoint;
    Item* item = nullptr;
    std::vector<Cidr> from_object;   // what its item has besides the endpoint's addresses
    std::vector<PolicyRef> policies; // in order of evaluation
    std::vector<LocalAddress> addresses;
    manx_slot_entry slot_written{};
    uint16_t slot_place = 0; // where it is
};

struct GroupState {
    std::vector<Item*> members;
    std::vector<MatcherId> matched; // Selector and NamedPort; sorted
    SourceId source = 0;
};

struct ServiceState {
    std::map<std::string, std::map<IpAddress, std::vector<uint32_t>>> slices; // values: ports
    std::map<IpAddress, SourceId> sources; // what is contributed now
    MatcherId ports = kNoMatcher;
    MatcherId addresses = kNoMatcher;
};

class PolicyCalculator::Impl {
public:
    explicit Impl(CalculatorOptions options);

    // items.cpp
    // from_object: prefixes; an endpoint's own addresses are joined to them.
    void set_item(const std::string& key, const GroupFacts& facts, std::vector<Cidr> from_object);
    void leave_group(Item& item, GroupId group);
    void refresh_addresses(Item& item, std::vector<Cidr> from_object, GroupId old_group);
    static std::vector<Cidr> prefixes_of(const Item& item);
    void forget_item(const std::string& key);
    void set_prefixes(const std::string& owner, std::vector<Cidr> prefixes, SourceId source);
    void touch_groups(const std::vector<GroupId>& groups);
    void touch_all_locals();
    void upsert_local(const dataplane::LocalEndpoint& endpoint);
    void remove_local(const std::string& interface);

    // policy_calculator.cpp
    void set_tier(const std::string& name, const api::Tier* tier); // null: gone
    void upsert_policy(const api::Policy& policy);
    void withdraw_policy(PolicyRef ref);
    void remove_policy(const std::string& key);
    void upsert_slice(const std::string& service, const std::string& slice,
                      std::map<IpAddress, std::vector<uint32_t>> addresses);

    // policies.cpp: matchers and rules.
    MatcherId acquire_matcher(Matcher matcher);
    void release_matcher(MatcherId id);
    RuleRef compile_rule(const api::Policy& policy, api::Direction direction,
                         const api::PolicyRule& rule);
    void release_rule(RuleRef ref);
    void compile_policy(PolicyState& state);
    void release_policy_rules(PolicyState& state);
    [[nodiscard]] bool before(PolicyRef a, PolicyRef b) const;
    void match_local(LocalState& local);
    void match_policy(PolicyRef ref);
    void attach(LocalState& local, PolicyRef ref);
    void detach(LocalState& local, PolicyRef ref);
    SetRef acquire_set(const LocalState& local, const IpAddress& address, api::Direction direction,
                       bool staged);
    void release_set(SetRef ref);

    // flush.cpp
    TableUpdate flush();
    void update_groups();
    void update_services();
    void update_addresses(TableUpdate& out);

    // policy_sets.cpp
    void build_set(SetRef ref, TableUpdate& out);
    void choose_default(PolicySet& set, const std::unordered_map<ClassRef, PortTablePtr>& tables);
    void reconsider(SetRef ref);
    void replace_outgrown_sets();
    void retire(TableUpdate& out);
    void add_class(ClassRef ref, TableUpdate& out);
    void drop_class(ClassRef ref, TableUpdate& out);
    void set_entry(SetRef ref, ClassRef one, TableUpdate& out);
    void forget_entry(SetRef ref, ClassRef one, TableUpdate& out);
    PortTablePtr compile(PolicySet& set, Atoms other);
    PortTablePtr intern(PortTable table);
    void trim_port_tables();
    [[nodiscard]] uint32_t set_id(SetRef ref) const;

    // local_entries.cpp
    void update_locals(TableUpdate& out);
    void write_classes(LocalState& local, TableUpdate& out);
    void write_local(LocalState& local, TableUpdate& out);

    // judge.cpp
    [[nodiscard]] TableUpdate snapshot() const;
    [[nodiscard]] Judgement judge(const IpAddress& local, api::Direction direction,
                                  const IpAddress& other, const Packet& packet, bool staged) const;

    CalculatorOptions options;
    StringPool strings;
    LabelGroups groups;
    SelectorIndex matcher_index;
    SelectorIndex policy_index;
    ClassTable classes;
    AddressTable addresses;
    RuleRegistry registry;
    StableIds set_ids;

    // Static sources: what an address is, by flag.
    SourceId local_host_source = 0;
    SourceId remote_host_source = 0;
    SourceId service_source = 0;
    SourceId pool_source = 0;

    std::unordered_map<std::string, Item> items;
    std::deque<GroupState> group_states;                                    // by GroupId
    std::map<std::string, std::pair<SourceId, std::vector<Cidr>>> prefixes; // by owner
    std::map<std::string, std::pair<Cidr, bool>> pools;                     // natOutgoing
    std::map<std::string, ServiceState> services;
    std::map<std::string, std::string> slice_owner; // "ns/slice" -> "ns/service"
    std::map<std::string, api::Tier> tiers;

    std::vector<Matcher> matchers;
    std::vector<uint64_t> matcher_hashes; // by MatcherId
    std::vector<MatcherId> free_matchers;
    std::unordered_map<std::string, MatcherId> matcher_by_key;

    std::vector<CompiledRule> rules;
    std::vector<RuleRef> free_rules;

    std::unordered_map<std::string, PolicyRef> policy_by_key;
    std::vector<PolicyState> policies;
    std::vector<PolicyRef> free_policies;

    std::vector<PolicySet> sets;
    std::vector<SetRef> free_sets;
    std::vector<SetRef> inverted_sets; // every new class concerns them
    std::unordered_multimap<uint64_t, SetRef> set_by_hash;
    std::unordered_multimap<uint64_t, std::weak_ptr<const PortTable>> port_tables;
    size_t port_tables_limit = 1024;

    std::map<std::string, LocalState> locals; // by interface
    std::unordered_map<IpAddress, LocalState*> local_by_address;
    std::unordered_map<GroupId, std::vector<LocalState*>> locals_by_group;

    // Marks.
    std::unordered_set<GroupId> dirty_groups; // labels changed: matchers to be found anew
    std::unordered_set<GroupId> stale_groups; // matchers changed: atoms to be made anew
    std::set<std::string> dirty_services;
    std::set<PolicyRef> dirty_policies;
    std::set<LocalState*> unmatched_locals; // labels changed: policies to be matched anew
    std::set<LocalState*> dirty_locals;
    std::vector<SetRef> fresh_sets;
    std::vector<SetRef> outgrown_sets; // another default would take far fewer entries
    std::vector<SetRef> idle_sets;
    std::vector<ClassRef> idle_classes;
    std::vector<RuleRef> idle_rules; // of changed policies, until the sets have moved on
    std::set<std::string> too_big;   // policies; see take_too_big()
    TableUpdate removed;             // endpoints that are gone
};

} // namespace manx::calc
