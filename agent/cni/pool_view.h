// SPDX-License-Identifier: Apache-2.0
// What the CNI server needs to know of the IP pools: which families a pod of this node gets where
// its configuration does not say.
#pragma once

#include "agent/api/pool.h"
#include "agent/api/selector.h"
#include "base/ip.h"

#include <map>
#include <string>

namespace manx::cni {

class PoolView {
public:
    void upsert(const api::IpPool& pool);
    void remove(const std::string& name);

    // Of the own node, for the pools' node selectors.
    void set_node_labels(api::LabelMap labels) { node_labels_ = std::move(labels); }

    // A pool from which a pod of this node may get an address without asking for it by name.
    [[nodiscard]] bool has_usable(Family family) const;

private:
    struct Entry {
        Cidr cidr;
        bool offered = false; // usable, for workloads, given out automatically
        api::Selector nodes;
    };

    std::map<std::string, Entry> pools_;
    api::LabelMap node_labels_;
};

} // namespace manx::cni
