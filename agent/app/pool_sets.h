// SPDX-License-Identifier: Apache-2.0
// The prefixes of all pools, as natOutgoing needs them.
#pragma once

#include "agent/api/pool.h"
#include "base/ip.h"

#include <map>
#include <set>
#include <string>

namespace manx::app {

class PoolSets {
public:
    void upsert(const api::IpPool& pool) { pools_[pool.meta.name] = {pool.cidr, translated(pool)}; }

    void remove(const std::string& name) { pools_.erase(name); }

    // Pools whose traffic to the outside takes the node's address.
    [[nodiscard]] std::set<Cidr> nat_outgoing() const { return collect(true); }

    // Disabled ones too: their addresses may still be in use.
    [[nodiscard]] std::set<Cidr> all() const { return collect(false); }

private:
    struct Entry {
        Cidr cidr;
        bool nat_outgoing = false;
    };

    static bool translated(const api::IpPool& pool) {
        return pool.nat_outgoing && pool.allows(api::PoolUse::Workload);
    }

    [[nodiscard]] std::set<Cidr> collect(bool nat_only) const {
        std::set<Cidr> out;
        for (const auto& [name, entry] : pools_) {
            if (entry.nat_outgoing || !nat_only) {
                out.insert(entry.cidr);
            }
        }
        return out;
    }

    std::map<std::string, Entry> pools_;
};

} // namespace manx::app
