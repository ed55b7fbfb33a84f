// SPDX-License-Identifier: Apache-2.0
// Prefixes and what is known about them. A source (a group of pods, a list of nets, a pool...)
// contributes atoms and flags to prefixes; a prefix has what its own sources and all shorter
// prefixes around it give, since a longest-prefix search finds one entry only.
#pragma once

#include "agent/calc/class_table.h"
#include "agent/calc/id_list.h"
#include "base/ip.h"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace manx::calc {

using SourceId = uint32_t;

struct AddressClass {
    ClassRef ref = 0;
    uint32_t flags = 0; // enum manx_class_flags

    bool operator==(const AddressClass&) const = default;
};

class AddressTable {
public:
    explicit AddressTable(ClassTable& classes) : classes_(classes) {}

    // atoms: counted here.
    SourceId add_source(ClassRef atoms, uint32_t flags);
    // All contributions must be gone.
    void remove_source(SourceId id);
    // The caller marks the prefixes of the source with touch().
    void set_atoms(SourceId id, ClassRef atoms);

    [[nodiscard]] ClassRef atoms(SourceId id) const { return sources_[id].atoms; }

    struct Prefix;
    // A prefix in the table; valid while something contributes to it.
    using Node = std::pair<const Cidr, Prefix>;

    Node* contribute(const Cidr& prefix, SourceId source);
    void withdraw(Node* node, SourceId source);
    void withdraw(const Cidr& prefix, SourceId source);

    void touch(Node* node) { touched_.insert(node); }

    void touch(const Cidr& prefix);

    // Of the table's own; in the interface for what a Node is.
    struct Prefix {
        Node* parent = nullptr; // the longest prefix around it
        AddressClass now;
        IdList sources;
        bool present = false; // in the tables
    };

    struct Change {
        Cidr prefix;
        bool present = false; // an entry is in the tables from now on
        bool was_present = false;
        AddressClass now;
        AddressClass before;
    };

    // Recomputes what was touched, shorter prefixes first. Classes of `before` are valid until the
    // class table is collected.
    std::vector<Change> resolve(std::span<const uint64_t> matcher_hashes);

    // As BPF finds it.
    [[nodiscard]] AddressClass lookup(const IpAddress& address) const;

    [[nodiscard]] bool has_touched() const { return !touched_.empty(); }

    [[nodiscard]] size_t size() const { return prefixes_.size(); }

    // Every entry that is in the tables.
    void each(const std::function<void(const Cidr&, const AddressClass&)>& fn) const;

private:
    struct Source {
        ClassRef atoms = 0;
        uint32_t flags = 0;
        bool used = false;
    };

    using Prefixes = std::map<Cidr, Prefix>;

    struct ByCidr {
        bool operator()(const Node* a, const Node* b) const { return a->first < b->first; }
    };

    Node* find_parent(Prefixes::iterator at);
    void move_children(Prefixes::iterator at, Node* from, Node* to);
    AddressClass compute(const Node& node, std::span<const uint64_t> matcher_hashes);
    void touch_children(Prefixes::iterator at);

    ClassTable& classes_;
    std::vector<Source> sources_;
    std::vector<SourceId> free_;
    Prefixes prefixes_; // ordered: what contains a prefix comes before it
    std::set<Node*, ByCidr> touched_;
};

} // namespace manx::calc
