// SPDX-License-Identifier: Apache-2.0
// Addresses for the pods of one node, from the blocks that the node owns.
//
// The node's blocks are kept as they were last read or written. An allocation takes addresses from
// that copy and writes the block with compare-and-swap at once: one write for the handle of each
// pod, one for the block, whatever the number of pods in the burst; no read and no list. When the
// copy turns out to be old, the block is read again. When the node's blocks are full, its
// affinities are listed, and a new block is claimed.
//
// Order of writes: handle before block when allocating, block before handle when releasing. So a
// crash leaves at worst a handle that counts too much, never an address without a handle.
//
// All or nothing: a request that cannot be met whole gives back what it got, and fails.
//
// Threading: calls block on the datastore; they may come from any thread and run one at a time.
#pragma once

#include "agent/api/pool.h"
#include "agent/datastore/store.h"
#include "agent/ipam/block.h"
#include "agent/ipam/repository.h"
#include "agent/ipam/time.h"
#include "base/ip.h"
#include "base/result.h"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manx::ipam {

struct Request {
    std::string handle;                       // pod_handle()
    std::map<std::string, std::string> attrs; // pod_attributes()
    unsigned num4 = 0;
    unsigned num6 = 0;
    std::vector<std::string> pools4; // names or CIDRs; empty: those that fit
    std::vector<std::string> pools6;
    api::StringMap namespace_labels; // for the pools' namespaceSelector
    api::PoolUse use = api::PoolUse::Workload;
    unsigned max_blocks_per_host = 0; // 0: as configured
    // If not 0 and the handle holds that many addresses of a family already, these are the answer.
    unsigned max_per_handle = 0;
};

struct AssignedAddress {
    IpAddress address;
    Cidr block;

    auto operator<=>(const AssignedAddress&) const = default;
};

struct Assigned {
    std::vector<AssignedAddress> v4;
    std::vector<AssignedAddress> v6;
};

struct AssignRequest {
    IpAddress address;
    std::string handle;
    std::map<std::string, std::string> attrs;
    api::PoolUse use = api::PoolUse::Workload;
};

struct Options {
    Clock clock = system_now;
    // Between two tries of a lost compare-and-swap; the argument counts the tries from 0.
    std::function<void(unsigned)> backoff; // empty: random, growing from 1 to 50 ms
    // How long pools, reservations, configuration and node labels are good without watches.
    std::chrono::milliseconds max_age{2000};
    unsigned retries = 100;
};

class Allocator {
public:
    Allocator(datastore::Store& store, std::string node, Options options = {});
    Allocator(datastore::Store& store, BlockOwner owner, Options options = {});
    Allocator(const Allocator&) = delete;
    Allocator& operator=(const Allocator&) = delete;
    ~Allocator();

    // Learns of changed pools, reservations, configuration and affinities by watches instead of by
    // age. Once, early.
    Result<void> watch();
    // Reads the node's blocks and repairs its affinities, so that the first pod finds them at hand.
    Result<void> warm_up();
    void note_node_changed(); // labels
    void invalidate();        // forget everything that is kept

    // Errors: ConfigReality (no pool), Exhausted (no free address, limit reached), Conflict
    // (compare-and-swap lost too often), Unavailable.
    Result<Assigned> auto_assign(const Request& request);
    // A burst: one result per request, in order.
    std::vector<Result<Assigned>> auto_assign_many(std::span<const Request> requests);
    // AlreadyExists: taken by somebody else. ConfigReality: no pool holds it. The same address for
    // the same handle again is not an error.
    Result<AssignedAddress> assign_ip(const AssignRequest& request);

    // NotFound: the handle does not exist.
    Result<void> release_by_handle(std::string_view handle);
    std::vector<Result<void>> release_by_handles(std::span<const std::string> handles);
    // Handles and blocks are updated. What was not assigned is in the outcome's `unallocated`.
    Result<ReleaseOutcome> release_ips(std::span<const Release> requests);
    // What a handle holds; empty if nothing. Reads the datastore.
    Result<std::vector<AssignedAddress>> addresses_of(std::string_view handle);

    // Takes or keeps the block for this node. AlreadyExists: another has it.
    Result<void> claim_block(const Cidr& block);
    // Conflict: not empty, and require_empty was asked for; or another owner has it.
    Result<void> release_block(const Cidr& block, bool require_empty);

    // Blocks that this node owns, as far as they are known here (for routes).
    [[nodiscard]] std::vector<Cidr> own_blocks() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

// "<network>.<containerID>": the handle of a pod's addresses.
std::string pod_handle(std::string_view network, std::string_view container_id);
// node, namespace, pod, timestamp: the attributes that Calico's plugin writes.
std::map<std::string, std::string> pod_attributes(std::string_view node, std::string_view ns,
                                                  std::string_view pod, Time now);

} // namespace manx::ipam
