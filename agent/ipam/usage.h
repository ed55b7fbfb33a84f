// SPDX-License-Identifier: Apache-2.0
// How full pools and blocks are. Pure; also what the metrics of pools are made of.
#pragma once

#include "agent/ipam/environment.h"
#include "agent/ipam/repository.h"
#include "base/ip.h"

#include <span>
#include <string>
#include <vector>

namespace manx::ipam {

// Numbers of addresses; doubles, since an IPv6 pool has more than 2^64.
struct Usage {
    double capacity = 0;
    double in_use = 0; // cooling ones included
    double reserved = 0;
    double available = 0; // neither in use nor reserved
};

struct BlockUsage {
    Cidr cidr;
    std::string affinity;
    Usage usage;
};

struct PoolUsage {
    std::string name; // "orphaned allocation blocks": blocks that lie in no pool
    Cidr cidr;
    Usage usage;
    std::vector<BlockUsage> blocks; // by address
};

// By name of the pools; the orphans last, if there are any.
std::vector<PoolUsage> usage(const Environment& environment, std::span<const Stored<Block>> blocks);

} // namespace manx::ipam
