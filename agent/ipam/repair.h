// SPDX-License-Identifier: Apache-2.0
// Repairs of what a survey found. Each reads again what it is about to change, changes only what
// is still as found, and writes with compare-and-swap; so they may run beside everything else.
// True: repaired; false: no longer so, nothing done.
#pragma once

#include "agent/ipam/claims.h"
#include "agent/ipam/ipam.h"
#include "agent/ipam/survey.h"

#include <optional>
#include <span>

namespace manx::ipam {

class Repair {
public:
    Repair(datastore::Store& store, Options options);

    // Releases the leaks of one handle, if none of them is in use by now; the number released.
    Result<unsigned> release(std::span<const Leak> leaks);
    // Makes the handle count what the blocks hold.
    Result<bool> fix(const HandleFault& fault);
    Result<bool> fix(const AffinityFinding& finding);
    // The empty block of an owner that has others.
    Result<bool> release_empty(const BlockFinding& finding);
    // The affinity object that an owned block lacks.
    Result<bool> restore_affinity(const BlockFinding& finding);
    // Takes the block from the node that is gone: deletes it if empty, else leaves it unowned.
    Result<bool> release_of_gone(const BlockFinding& finding);
    Result<bool> remove_unowned(const BlockFinding& finding);
    // Frees addresses whose cool-down is over.
    Result<unsigned> free_cooled(const BlockFinding& finding, std::chrono::seconds cooldown);
    // Lists as free what is neither free nor taken; the rest of the damage is mended by any write
    // (Block). Nothing is released.
    Result<bool> rebuild(const BlockFinding& finding);
    Result<bool> finish_delete(const MarkedDeleted& marked);
    // What a block holds, though someone found it leaked: the address, if it is allocated to this
    // handle, and not anew since. Nullopt: it is not.
    Result<std::optional<Leak>> find(const Release& wanted);

private:
    Result<bool> node_exists(const std::string& node);
    Result<bool> still_leaked(const Leak& leak);

    datastore::Store& store_;
    Options options_;
    Retry retry_;
    Repository repository_;
    Claims claims_;
    Allocator allocator_;
};

} // namespace manx::ipam
