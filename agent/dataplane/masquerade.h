// SPDX-License-Identifier: Apache-2.0
// natOutgoing: traffic from a pool with natOutgoing to an address outside all pools leaves with the
// node's own address. netfilter does the translation, in one table "inet manx" that is replaced as
// a whole; without such a pool there is no table, and no connection tracking because of us.
#pragma once

#include "base/ip.h"
#include "base/result.h"

#include <set>
#include <string>

namespace manx::dataplane {

// The nft commands that put exactly this in force; from empty to nothing included.
std::string render_masquerade(const std::set<Cidr>& nat_pools, const std::set<Cidr>& all_pools);

class Masquerade {
public:
    // Applies when it differs from what was applied last; the first call always applies.
    // all_pools: every pool whose addresses count as internal, disabled ones too.
    Result<void> apply(const std::set<Cidr>& nat_pools, const std::set<Cidr>& all_pools);

private:
    std::string applied_;
};

} // namespace manx::dataplane
