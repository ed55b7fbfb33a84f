// SPDX-License-Identifier: Apache-2.0
// IPAM's objects in the datastore, typed: blocks, affinities and handles. Every write is a
// compare-and-swap on one object; nothing here spans two.
//
// Deleting. Calico marks an object `deleted` first, because its store can only guard a delete by
// UID. Here a delete is guarded by the revision itself, so it needs no mark; an object that another
// has marked counts as not there, and whoever reads it finishes the delete.
#pragma once

#include "agent/api/ipam.h"
#include "agent/datastore/store.h"
#include "agent/ipam/block.h"
#include "base/result.h"

#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manx::ipam {

// Who may own blocks: a node, or Calico's pseudo node for service addresses.
struct BlockOwner {
    std::string name;
    std::string type = "host"; // or "virtual"

    // "host:node1", as a block's affinity is written.
    [[nodiscard]] std::string text() const { return type + ":" + name; }

    // The reverse of text(); name is empty where there is none.
    static BlockOwner parse(std::string_view affinity);

    auto operator<=>(const BlockOwner&) const = default;
};

// A value together with the state of the datastore that it was read from or written as.
template <typename T>
struct Stored {
    T value;
    std::string resource_version;
    std::string uid;
};

// An object that another has marked as deleted, and not deleted yet.
struct MarkedDeleted {
    datastore::Key key;
    std::string resource_version;
    std::string uid;

    [[nodiscard]] std::string text() const { return key.text() + " " + resource_version; }
};

// What a list leaves out.
struct LeftOut {
    std::vector<std::string> broken;     // cannot be read: which, and why
    std::set<std::string> broken_blocks; // names of those that are blocks
    std::vector<MarkedDeleted> deleted;
};

// What choosing a block needs to know of each one. A list of all blocks of a large cluster is kept
// in this form only: an agent has little memory.
struct BlockSummary {
    Cidr cidr;
    std::string affinity;
    std::string claim_time;
    uint64_t sequence_number = 0;
    unsigned free = 0; // without reserved addresses
    bool empty = false;
    bool cooling = false;
};

class Repository {
public:
    explicit Repository(datastore::Store& store) : store_(store) {}

    [[nodiscard]] datastore::Store& store() const { return store_; }

    // NotFound. ConfigInvalid, here as for the other kinds: what is stored cannot be read.
    [[nodiscard]] Result<Stored<Block>> block(const Cidr& cidr) const;
    // Without what is told in `left_out`, if given.
    [[nodiscard]] Result<std::vector<Stored<Block>>> blocks(LeftOut* left_out = nullptr) const;
    // A block that cannot be read is in it as nobody's, without a free address.
    [[nodiscard]] Result<std::vector<BlockSummary>>
    block_summaries(std::span<const Cidr> reservations, Time now,
                    std::chrono::seconds cooldown) const;
    // Another block that lies across this one, readable or not.
    [[nodiscard]] Result<std::optional<Cidr>> overlapping(const Cidr& cidr) const;
    // AlreadyExists.
    [[nodiscard]] Result<Stored<Block>> create(const Block& block) const;
    // One step of the sequence number, and the write. Conflict, NotFound; then `block` is void.
    Result<void> write(Stored<Block>& block) const;
    Result<void> remove(const Stored<Block>& block) const;

    [[nodiscard]] Result<Stored<api::BlockAffinity>> affinity(const BlockOwner& owner,
                                                              const Cidr& cidr) const;
    [[nodiscard]] Result<std::vector<Stored<api::BlockAffinity>>>
    affinities(LeftOut* left_out = nullptr) const;
    // By label, one family; what a node owns or is about to.
    [[nodiscard]] Result<std::vector<Stored<api::BlockAffinity>>>
    affinities_of(const BlockOwner& owner, Family family) const;
    [[nodiscard]] Result<Stored<api::BlockAffinity>> create(const api::BlockAffinity& value) const;
    Result<void> write(Stored<api::BlockAffinity>& affinity) const;
    Result<void> remove(const Stored<api::BlockAffinity>& affinity) const;

    [[nodiscard]] Result<Stored<api::IpamHandle>> handle(std::string_view id) const;
    [[nodiscard]] Result<std::vector<Stored<api::IpamHandle>>>
    handles(LeftOut* left_out = nullptr) const;
    [[nodiscard]] Result<Stored<api::IpamHandle>> create(const api::IpamHandle& value) const;
    Result<void> write(Stored<api::IpamHandle>& handle) const;
    Result<void> remove(const Stored<api::IpamHandle>& handle) const;

    // Conflict: it is not that object any more.
    Result<void> finish_delete(const MarkedDeleted& marked) const;

private:
    datastore::Store& store_;
};

} // namespace manx::ipam
