// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/usage.h"

#include "agent/ipam/pools.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace manx::ipam {

namespace {

double capacity(const Cidr& cidr) {
    return std::ldexp(1.0, static_cast<int>(address_bits(cidr.family()) - cidr.length()));
}

// Addresses of `cidr` inside the reservations, each counted once.
double reserved_in(const Cidr& cidr, std::span<const Cidr> reservations) {
    double sum = 0;
    std::vector<Cidr> counted;
    std::vector<Cidr> sorted(reservations.begin(), reservations.end());
    // Wider ones first: what lies inside of one of them is skipped.
    std::sort(sorted.begin(), sorted.end(),
              [](const Cidr& a, const Cidr& b) { return a.length() < b.length(); });
    for (const Cidr& r : sorted) {
        if (r.contains(cidr)) {
            return capacity(cidr);
        }
        bool inside = std::any_of(counted.begin(), counted.end(),
                                  [&](const Cidr& c) { return c.contains(r); });
        if (cidr.contains(r) && !inside) {
            sum += capacity(r);
            counted.push_back(r);
        }
    }
    return sum;
}

BlockUsage of_block(const Block& block, std::span<const Cidr> reservations) {
    BlockUsage out{block.cidr(), block.affinity(), {}};
    out.usage.capacity = static_cast<double>(block.data().allocations.size());
    out.usage.in_use = out.usage.capacity - static_cast<double>(block.data().unallocated.size());
    out.usage.reserved = reserved_in(block.cidr(), reservations);
    out.usage.available = block.free_count(reservations);
    return out;
}

} // namespace

std::vector<PoolUsage> usage(const Environment& environment,
                             std::span<const Stored<Block>> blocks) {
    std::vector<PoolUsage> pools;
    std::map<const api::IpPool*, size_t> index;
    for (const api::IpPool& pool : environment.pools) {
        index[&pool] = pools.size();
        PoolUsage entry{pool.meta.name, pool.cidr, {}, {}};
        entry.usage.capacity = capacity(pool.cidr);
        entry.usage.reserved = reserved_in(pool.cidr, environment.reservations);
        entry.usage.available = entry.usage.capacity - entry.usage.reserved;
        pools.push_back(std::move(entry));
    }
    PoolUsage orphans{"orphaned allocation blocks", *Cidr::parse("0.0.0.0/0"), {}, {}};
    for (const auto& stored : blocks) {
        BlockUsage block = of_block(stored.value, environment.reservations);
        const api::IpPool* pool = pool_of(environment.pools, block.cidr.address());
        PoolUsage& entry = pool == nullptr ? orphans : pools[index.at(pool)];
        entry.usage.in_use += block.usage.in_use;
        if (pool == nullptr) {
            entry.usage.capacity += block.usage.capacity;
            entry.usage.reserved += block.usage.reserved;
            entry.usage.available += block.usage.available;
        } else {
            double unreserved = block.usage.capacity - block.usage.reserved;
            entry.usage.available -= unreserved - block.usage.available;
        }
        entry.blocks.push_back(std::move(block));
    }
    if (!orphans.blocks.empty()) {
        pools.push_back(std::move(orphans));
    }
    return pools;
}

} // namespace manx::ipam
