// SPDX-License-Identifier: Apache-2.0
// What the CNI server needs to know of the IP pools: which families a pod of this node gets where
// its configuration does not say.
#pragma once

#include "agent/api/pool.h"
#include "agent/api/selector.h"
#include "base/ip.h"

#include <map>
#include <string>
#include <vector>

namespace manx::cni {

// A pool of this node that gives addresses without being named, to pods of these namespaces.
struct PoolOffer {
    Family family = Family::V4;
    api::Selector namespaces;
};

class PoolView {
public:
    void upsert(const api::IpPool& pool);
    void remove(const std::string& name);

    // Of the own node, for the pools' node selectors.
    void set_node_labels(api::LabelMap labels) { node_labels_ = std::move(labels); }

    [[nodiscard]] std::vector<PoolOffer> offers() const;
    // Some pod of this node may get an address without asking for a pool by name.
    [[nodiscard]] bool has_usable(Family family) const;
    // By name or CIDR, as a configuration names pools.
    [[nodiscard]] bool has_named(Family family, const std::string& name) const;

private:
    struct Entry {
        Cidr cidr;
        bool usable = false;
        bool offered = false; // usable, for workloads, given out automatically
        api::Selector nodes;
        api::Selector namespaces;
    };

    std::map<std::string, Entry> pools_;
    api::LabelMap node_labels_;
};

} // namespace manx::cni
