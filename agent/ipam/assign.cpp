// SPDX-License-Identifier: Apache-2.0
// Taking addresses: from the owner's blocks, from newly claimed ones, from others' blocks.
#include "agent/ipam/allocator.h"
#include "agent/ipam/pools.h"
#include "agent/ipam/walk.h"
#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace manx::ipam {

namespace {

constexpr unsigned kDefaultBlockLimit = 20;

unsigned block_limit(unsigned requested, int configured) {
    auto config = static_cast<unsigned>(std::max(configured, 0));
    if (requested == 0 || config == 0) {
        return std::max({requested, config, requested + config == 0 ? kDefaultBlockLimit : 0U});
    }
    return std::min(requested, config);
}

unsigned wanted(const Request& request, Family family) {
    return family == Family::V4 ? request.num4 : request.num6;
}

Error short_of(const Want& want, Family family, const std::string& why) {
    unsigned total = wanted(*want.request, family);
    return Error{ErrorKind::Exhausted, 0,
                 fmt::format("Assigned {} out of {} requested IPv{} addresses; {}",
                             total - want.missing, total, family == Family::V4 ? 4 : 6, why)};
}

} // namespace

bool Group::open() const {
    return std::any_of(wants.begin(), wants.end(), [](const Want* w) { return w->open(); });
}

void Group::fail_open(const Error& error) {
    for (Want* want : wants) {
        if (want->open()) {
            want->error =
                error.kind == ErrorKind::Exhausted ? short_of(*want, family, error.message) : error;
        }
    }
}

const api::IpPool* Group::pool_of(const Cidr& block) const {
    auto found = std::find_if(pools.begin(), pools.end(), [&](const api::IpPool* pool) {
        return pool->cidr.contains(block.address());
    });
    return found == pools.end() ? nullptr : *found;
}

std::vector<Result<Assigned>> Allocator::Impl::auto_assign(std::span<const Request> requests) {
    std::lock_guard lock(mutex_);
    memo_.clear();
    auto environment = environment_.get();
    if (environment && !(*environment)->node_exists) {
        environment =
            fail(ErrorKind::ConfigReality, fmt::format("Node {} does not exist", owner_.name));
    }
    if (!environment) {
        return {requests.size(), Unexpected(environment.error())};
    }
    std::map<Family, std::vector<Want>> wants;
    for (Family family : kFamilies) {
        auto& list = wants[family];
        for (size_t i = 0; i < requests.size(); i++) {
            Want want;
            want.request = &requests[i];
            want.missing = wanted(requests[i], family);
            if (family == Family::V6 && wants[Family::V4][i].error) {
                want.missing = 0; // lost already
            }
            list.push_back(std::move(want));
        }
        assign_family(**environment, family, list);
    }
    std::vector<Result<Assigned>> results;
    for (size_t i = 0; i < requests.size(); i++) {
        Want& v4 = wants[Family::V4][i];
        Want& v6 = wants[Family::V6][i];
        if (v4.error || v6.error) {
            roll_back(**environment, v4);
            roll_back(**environment, v6);
            results.emplace_back(Unexpected(v4.error ? *v4.error : *v6.error));
        } else {
            results.emplace_back(Assigned{std::move(v4.got), std::move(v6.got)});
        }
    }
    memo_.clear();
    return results;
}

// Groups the wants by what they may take from, and serves group by group.
void Allocator::Impl::assign_family(const Environment& environment, Family family,
                                    std::span<Want> wants) {
    std::vector<Group> groups;
    for (Want& want : wants) {
        if (!want.open()) {
            continue;
        }
        const Request& request = *want.request;
        if (request.max_per_handle > 0) {
            if (auto done = satisfied_by_handle(want, family); !done) {
                want.error = done.error();
            }
            if (!want.open()) {
                continue;
            }
        }
        PoolQuery query{family,
                        request.use,
                        owner_.name,
                        &environment.node_labels,
                        &request.namespace_labels,
                        family == Family::V4 ? request.pools4 : request.pools6};
        auto pools = select_pools(environment.pools, query);
        if (!pools) {
            want.error = pools.error();
            continue;
        }
        unsigned limit =
            block_limit(request.max_blocks_per_host, environment.config.max_blocks_per_host);
        auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
            return g.pools == *pools && g.limit == limit;
        });
        if (group == groups.end()) {
            group = groups.insert(groups.end(), Group{family, std::move(*pools), limit, {}});
        }
        group->wants.push_back(&want);
    }
    for (Group& group : groups) {
        assign_group(environment, group);
    }
}

Result<void> Allocator::Impl::satisfied_by_handle(Want& want, Family family) {
    auto handle = repository_.handle(want.request->handle);
    if (!handle) {
        return handle.error().kind == ErrorKind::NotFound
                   ? Result<void>()
                   : Result<void>(Unexpected(handle.error()));
    }
    std::vector<AssignedAddress> held;
    for (const auto& [text, count] : handle->value.block) {
        auto cidr = Cidr::parse(text);
        if (!cidr || cidr->family() != family) {
            continue;
        }
        auto block = repository_.block(*cidr);
        if (!block && block.error().kind != ErrorKind::NotFound) {
            return Unexpected(block.error());
        }
        if (block) {
            for (const auto& address : block->value.addresses_of(want.request->handle)) {
                held.push_back({address, *cidr});
            }
        }
    }
    if (held.size() >= want.request->max_per_handle) {
        want.missing = 0;
        want.got = std::move(held);
        want.held_before = true;
    }
    return {};
}

void Allocator::Impl::assign_group(const Environment& environment, Group& group) {
    bool fresh = false; // the copies are as the datastore has them
    auto refreshed = own_.refresh_suspects();
    if (!refreshed) {
        return group.fail_open(refreshed.error());
    }
    for (unsigned i = 0; i < options_.retries; i++) {
        take_from_own(environment, group);
        if (!group.open()) {
            return;
        }
        if (!fresh) {
            // Before taking another block: what others may have freed or repaired meanwhile, and
            // how many blocks there are.
            auto in_pools = [&](const Cidr& block) { return group.pool_of(block) != nullptr; };
            if (auto loaded = own_.load(environment, group.family, in_pools); !loaded) {
                return group.fail_open(loaded.error());
            }
            fresh = true;
            continue;
        }
        auto claimed = claim_new(environment, group);
        if (!claimed) {
            return group.fail_open(claimed.error());
        }
        if (*claimed) {
            continue;
        }
        if (environment.config.strict_affinity) {
            return group.fail_open({ErrorKind::Exhausted, 0,
                                    "No more free affine blocks and strict affinity enabled"});
        }
        borrow(environment, group);
        std::string names;
        for (const api::IpPool* pool : group.pools) {
            names += (names.empty() ? "" : ", ") + pool->meta.name;
        }
        return group.fail_open(
            {ErrorKind::Exhausted, 0, fmt::format("no free address in pools: {}", names)});
    }
    group.fail_open(
        {ErrorKind::Conflict, 0,
         fmt::format("every block was lost again at each of {} tries", options_.retries)});
}

void Allocator::Impl::take_from_own(const Environment& environment, Group& group) {
    std::vector<Cidr> usable;
    for (const auto& [name, block] : own_.blocks(group.family)) {
        const Block& content = block.value;
        if (group.pool_of(content.cidr()) != nullptr &&
            (content.free_count(environment.reservations) > 0 || content.cooling())) {
            usable.push_back(content.cidr());
        }
    }
    for (const Cidr& cidr : usable) {
        if (!group.open()) {
            return;
        }
        Stored<Block>* block = own_.find(cidr);
        if (block != nullptr && !take(environment, group, *block, true)) {
            own_.forget(cidr);
        }
    }
}

bool Allocator::Impl::take(const Environment& environment, Group& group, Stored<Block>& block,
                           bool own) {
    const Cidr cidr = block.value.cidr();
    std::map<Want*, unsigned> counted; // what the handles were incremented by, for this block
    for (unsigned attempt = 0; attempt < options_.retries;) {
        Stored<Block> next = block;
        (void)next.value.collect(options_.clock(), environment.cooldown());
        std::vector<std::pair<Want*, std::vector<IpAddress>>> plan;
        for (Want* want : group.wants) {
            if (!want->open()) {
                continue;
            }
            auto taken =
                next.value.allocate(want->missing, {want->request->handle, want->request->attrs},
                                    environment.reservations);
            if (taken.empty()) {
                break; // full
            }
            plan.emplace_back(want, std::move(taken));
        }
        if (plan.empty()) {
            settle(cidr, counted);
            return true;
        }
        bool replan = false;
        for (auto& [want, taken] : plan) {
            auto count = static_cast<unsigned>(taken.size());
            if (want->request->handle.empty() || counted[want] >= count) {
                continue;
            }
            auto done =
                handles_.increment(want->request->handle, cidr, count - counted[want], memo_);
            if (!done) {
                want->error = done.error();
                replan = true;
                continue;
            }
            counted[want] = count;
        }
        if (replan) {
            continue; // each time with one want less, at least
        }
        auto written = repository_.write(next);
        if (written) {
            block = std::move(next);
            for (auto& [want, taken] : plan) {
                want->missing -= static_cast<unsigned>(taken.size());
                counted[want] -=
                    want->request->handle.empty() ? 0 : static_cast<unsigned>(taken.size());
                for (const IpAddress& address : taken) {
                    want->got.push_back({address, cidr});
                }
            }
            settle(cidr, counted);
            return true;
        }
        auto kind = written.error().kind;
        if (kind != ErrorKind::Conflict && kind != ErrorKind::NotFound) {
            // The block may have been written or not.
            for (auto& [want, taken] : plan) {
                want->error = written.error();
                for (const IpAddress& address : taken) {
                    want->uncertain.push_back({address, cidr});
                }
            }
            return false; // to be read again before it is used
        }
        retry_.backoff(attempt++);
        if (!reload(block, own, group)) {
            settle(cidr, counted);
            return false;
        }
    }
    group.fail_open({ErrorKind::Conflict, 0,
                     fmt::format("block {}: changed by others at each of {} tries", cidr.text(),
                                 options_.retries)});
    settle(cidr, counted);
    return true;
}

// After a lost write: the block as it is now. False: it is gone, or not ours any more.
bool Allocator::Impl::reload(Stored<Block>& block, bool own, Group& group) {
    Cidr cidr = block.value.cidr();
    auto read = own ? claims_.through_affinity(owner_, cidr, false) : repository_.block(cidr);
    if (read) {
        block = std::move(*read);
        return true;
    }
    if (read.error().kind != ErrorKind::NotFound) {
        group.fail_open(read.error());
    }
    return false;
}

// Takes back what handles count for addresses that were not taken after all.
void Allocator::Impl::settle(const Cidr& block, std::map<Want*, unsigned>& counted) {
    for (auto& [want, count] : counted) {
        if (count == 0) {
            continue;
        }
        memo_.erase(want->request->handle);
        if (auto done = handles_.decrement(want->request->handle, block, count); !done) {
            log::get("ipam")->warn("handle {} counts {} too many in {} until it is collected: {}",
                                   want->request->handle, count, block.text(), done.error().text());
        }
        count = 0;
    }
}

void Allocator::Impl::borrow(const Environment& environment, Group& group) {
    auto blocks = block_summaries(environment);
    if (!blocks) {
        return group.fail_open(blocks.error());
    }
    for (const BlockSummary& candidate : in_walk_order(group, *blocks)) {
        if (!group.open()) {
            return;
        }
        if (own_.find(candidate.cidr) != nullptr || (candidate.free == 0 && !candidate.cooling)) {
            continue;
        }
        auto block = repository_.block(candidate.cidr);
        if (block) {
            (void)take(environment, group, *block, false); // a lost one is just passed over
        } else if (block.error().kind != ErrorKind::NotFound) {
            return group.fail_open(block.error());
        }
    }
}

// Gives back what a failed request got, and what it may have got.
void Allocator::Impl::roll_back(const Environment& environment, Want& want) {
    auto releases = [&](const std::vector<AssignedAddress>& list) {
        std::vector<Release> all;
        for (const AssignedAddress& assigned : list) {
            all.push_back({assigned.address, want.request->handle, std::nullopt});
        }
        return all;
    };
    auto complain = [&](const Error& error) {
        log::get("ipam")->warn("addresses of the failed handle {} stay until it is released: {}",
                               want.request->handle, error.text());
    };
    if (!want.held_before && !want.got.empty()) {
        if (auto done = release(environment, releases(want.got)); !done) {
            complain(done.error());
        }
    }
    if (want.uncertain.empty()) {
        return;
    }
    // What had not been written is counted by the handle all the same. An address that is somebody
    // else's now tells that nothing had been written.
    auto released = release(environment, releases(want.uncertain));
    if (!released && released.error().kind != ErrorKind::ConfigReality) {
        return complain(released.error());
    }
    for (const AssignedAddress& assigned : want.uncertain) {
        bool given_back =
            released && std::find(released->released.begin(), released->released.end(),
                                  assigned.address) != released->released.end();
        if (!given_back && !want.request->handle.empty()) {
            (void)handles_.decrement(want.request->handle, assigned.block, 1); // else: collected
        }
    }
}

} // namespace manx::ipam
