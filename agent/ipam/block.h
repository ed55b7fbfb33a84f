// SPDX-License-Identifier: Apache-2.0
// The rules by which an allocation block changes. Pure: a Block is the content of one IPAMBlock;
// reading and compare-and-swap are the caller's (repository.h). Byte for byte what Calico's IPAM
// does with the same block, since both may write it:
//
//  - addresses are handed out from the head of `unallocated`, and come back at its tail;
//  - equal attributes are shared; attributes nobody refers to are dropped;
//  - `sequence_number` grows with each write (begin_write); an ordinal remembers the number that
//    the block had before the write that allocated or released it;
//  - a released address cools down first: it keeps an attribute with `released_at`, until collect()
//    finds it old enough. With a cool-down of zero that happens in the same write.
#pragma once

#include "agent/api/ipam.h"
#include "agent/ipam/time.h"
#include "base/ip.h"
#include "base/result.h"

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manx::ipam {

// Who an allocation belongs to.
struct Owner {
    std::string handle;                       // empty: none
    std::map<std::string, std::string> attrs; // node, namespace, pod, timestamp, ...
};

struct Release {
    IpAddress address;
    std::optional<std::string> handle;       // only if allocated to this handle
    std::optional<uint64_t> sequence_number; // only if not allocated anew since
};

struct ReleaseOutcome {
    std::vector<IpAddress> released;
    std::vector<IpAddress> unallocated;      // were free, or cooling down already
    std::map<std::string, unsigned> handles; // how many addresses each handle lost
};

struct Allocation {
    IpAddress address;
    const api::AllocationAttribute* attribute = nullptr; // never null
    std::optional<uint64_t> sequence_number;
};

inline constexpr std::string_view kWindowsHandle = "windows-reserved-ipam-handle";

class Block {
public:
    // Damage that others did is made harmless: from the free ordinals those are struck out that are
    // taken, listed twice, or outside of the block; an allocation whose attribute does not exist
    // stays taken, under an attribute of its own. The next write stores that.
    explicit Block(api::IpamBlock data);

    // All addresses free. affinity: "host:node1"; empty for none.
    static Block create(const Cidr& cidr, std::string affinity, Time now);

    [[nodiscard]] const api::IpamBlock& data() const { return data_; }

    // As it was read: ordinals were free and taken, or neither, or taken by nobody.
    [[nodiscard]] bool damaged() const { return damaged_; }

    // Lists as free what is neither free nor taken, which ends the damage.
    void list_lost();

    [[nodiscard]] const Cidr& cidr() const { return data_.cidr; }

    [[nodiscard]] const std::string& affinity() const { return data_.affinity; }

    // Sets or, with an empty text, clears affinity and claim time.
    void set_affinity(std::string affinity, Time now);

    // Before each write of the block.
    void begin_write() { data_.sequence_number++; }

    // Up to count addresses for one owner, which share one attribute; reserved ones stay in line.
    std::vector<IpAddress> allocate(unsigned count, const Owner& owner,
                                    std::span<const Cidr> reservations);
    // AlreadyExists: taken, or still cooling down.
    Result<void> assign(const IpAddress& address, const Owner& owner);
    // All or nothing: ConfigReality when handle or sequence number of one do not match.
    Result<ReleaseOutcome> release(std::span<const Release> requests, Time now,
                                   std::chrono::seconds cooldown);
    // All addresses of the handle.
    ReleaseOutcome release_handle(std::string_view handle, Time now, std::chrono::seconds cooldown);
    // Frees what has cooled down; the number of addresses freed.
    unsigned collect(Time now, std::chrono::seconds cooldown);

    // No address in use or cooling down (those reserved for Windows do not count).
    [[nodiscard]] bool empty() const;
    [[nodiscard]] unsigned free_count(std::span<const Cidr> reservations) const;
    [[nodiscard]] bool cooling() const; // at least one address is cooling down
    [[nodiscard]] bool cooling(const IpAddress& address) const;

    [[nodiscard]] std::vector<IpAddress> addresses_of(std::string_view handle) const;
    // In use: null where free or cooling down.
    [[nodiscard]] std::optional<Allocation> find(const IpAddress& address) const;
    [[nodiscard]] std::vector<Allocation> allocations() const; // without cooling ones
    // Addresses per handle, of what is in use.
    [[nodiscard]] std::map<std::string, unsigned> handles() const;

private:
    [[nodiscard]] IpAddress address_of(size_t ordinal) const {
        return data_.cidr.address().plus(ordinal);
    }

    [[nodiscard]] const api::AllocationAttribute* attribute_of(size_t ordinal) const;
    [[nodiscard]] Allocation allocation_of(size_t ordinal) const;
    size_t attribute_index(const Owner& owner);
    void release_ordinals(std::span<const size_t> ordinals, Time now, std::chrono::seconds cooldown,
                          ReleaseOutcome& outcome);
    void drop_unused_attributes();
    void make_harmless();

    api::IpamBlock data_;
    bool damaged_ = false;
};

// A stored handle without what an old CNI plugin left behind it ("\r" and more).
std::string_view clean_handle(std::string_view stored);

} // namespace manx::ipam
