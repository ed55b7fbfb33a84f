// SPDX-License-Identifier: Apache-2.0
// Giving addresses back: the block first, then the handles that count them.
#include "agent/ipam/allocator.h"
#include "agent/ipam/pools.h"
#include "agent/ipam/walk.h"
#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace manx::ipam {

Result<ReleaseOutcome>
Allocator::Impl::release_in_block(const Environment& environment, const Cidr& cidr,
                                  const std::function<Result<ReleaseOutcome>(Block&)>& change) {
    // The copy at hand first; when its write is lost, the block as it is.
    Stored<Block>* own = own_.find(cidr);
    std::optional<Stored<Block>> block;
    if (own != nullptr) {
        block = *own;
    }
    return retry_.run(
        fmt::format("releasing from block {}", cidr.text()), [&]() -> Result<ReleaseOutcome> {
            bool certain = !block.has_value();
            if (certain) {
                TRY_ASSIGN(block, repository_.block(cidr));
            }
            Stored<Block> next = *block;
            block.reset(); // a second try reads again
            auto outcome = change(next.value);
            if (!outcome || outcome->released.empty()) {
                if (!certain) {
                    // Do not judge by an old copy.
                    return fail(ErrorKind::Conflict, "the copy of the block may be old");
                }
                return outcome;
            }
            auto written = repository_.write(next);
            if (!written) {
                own_.forget(cidr);
                return Unexpected(gone_is_conflict(written.error()));
            }
            if (own_.find(cidr) != nullptr) {
                if (next.value.affinity() == owner_.text()) {
                    own_.put(next);
                } else {
                    own_.forget(cidr);
                }
            }
            after_release(environment, next);
            return outcome;
        });
}

// An empty block goes away when nobody owns it, or when its owner should not.
void Allocator::Impl::after_release(const Environment& environment, Stored<Block>& block) {
    if (!block.value.empty()) {
        return;
    }
    const Cidr& cidr = block.value.cidr();
    if (block.value.affinity().empty()) {
        // Lost to somebody who writes the block: then it is in use again, and stays.
        (void)repository_.remove(block);
        return;
    }
    BlockOwner owner = BlockOwner::parse(block.value.affinity());
    if (owner.type != "host") {
        return;
    }
    const api::IpPool* pool = pool_of(environment.pools, cidr.address());
    if (pool == nullptr || !pool->usable()) {
        return; // it stays with its node, like every block that the pool left behind
    }
    if (owner == owner_) {
        if (selects_node(*pool, environment.node_labels)) {
            return;
        }
    } else {
        auto labels = load_node_labels(store_, owner.name);
        if (!labels || selects_node(*pool, *labels)) {
            return; // of nodes that are gone the collector takes care
        }
    }
    auto released =
        claims_.release(owner, cidr, {.require_empty = true, .cooldown = environment.cooldown()});
    if (released) {
        own_.forget(cidr);
        log::get("ipam")->info("gave block {} back: no pool of it selects {}", cidr.text(),
                               owner.text());
    }
}

std::vector<Result<void>>
Allocator::Impl::release_by_handles(std::span<const std::string> handles) {
    std::lock_guard lock(mutex_);
    std::vector<Result<void>> results(handles.size());
    auto environment = environment_.get();
    if (!environment) {
        return {handles.size(), Unexpected(environment.error())};
    }
    std::vector<std::optional<Stored<api::IpamHandle>>> read(handles.size());
    std::map<Cidr, std::vector<size_t>> by_block;
    for (size_t i = 0; i < handles.size(); i++) {
        auto handle = repository_.handle(handles[i]);
        if (!handle) {
            results[i] = Unexpected(unreadable_is_reality(handle.error()));
            if (handle.error().kind == ErrorKind::NotFound) {
                // It may be lost, and its addresses not; those nearby are known.
                for (const Cidr& cidr : own_.all()) {
                    if (!own_.find(cidr)->value.addresses_of(handles[i]).empty()) {
                        by_block[cidr].push_back(i);
                    }
                }
            }
            continue;
        }
        for (const auto& [text, count] : handle->value.block) {
            if (auto cidr = Cidr::parse(text)) {
                by_block[*cidr].push_back(i);
            }
        }
        read[i] = std::move(*handle);
    }
    for (const auto& [cidr, indexes] : by_block) {
        auto outcome =
            release_in_block(**environment, cidr, [&](Block& block) -> Result<ReleaseOutcome> {
                ReleaseOutcome all;
                for (size_t i : indexes) {
                    auto one = block.release_handle(handles[i], options_.clock(),
                                                    (*environment)->cooldown());
                    all.released.insert(all.released.end(), one.released.begin(),
                                        one.released.end());
                    all.handles.merge(one.handles);
                }
                return all;
            });
        for (size_t i : indexes) {
            if (!outcome && outcome.error().kind != ErrorKind::NotFound) {
                results[i] = Unexpected(unreadable_is_reality(outcome.error()));
            } else if (outcome && outcome->handles.contains(handles[i]) && !read[i] &&
                       !results[i] && results[i].error().kind == ErrorKind::NotFound) {
                results[i] = {}; // there was something after all
            }
        }
    }
    for (size_t i = 0; i < handles.size(); i++) {
        if (read[i] && results[i]) {
            results[i] = handles_.subtract(*read[i]);
        }
    }
    return results;
}

Result<ReleaseOutcome> Allocator::Impl::release_ips(std::span<const Release> requests) {
    std::lock_guard lock(mutex_);
    TRY_ASSIGN(auto environment, environment_.get());
    return release(*environment, requests);
}

Result<ReleaseOutcome> Allocator::Impl::release(const Environment& environment,
                                                std::span<const Release> requests) {
    std::map<Cidr, std::vector<Release>> by_block;
    ReleaseOutcome all;
    std::optional<Error> failed;
    for (const Release& request : requests) {
        auto cidr = block_holding(environment, request.address);
        if (cidr) {
            by_block[*cidr].push_back(request);
        } else if (cidr.error().kind == ErrorKind::NotFound) {
            all.unallocated.push_back(request.address);
        } else {
            return Unexpected(cidr.error());
        }
    }
    for (const auto& [cidr, list] : by_block) {
        auto outcome = release_in_block(environment, cidr, [&](Block& block) {
            return block.release(list, options_.clock(), environment.cooldown());
        });
        if (!outcome) {
            if (outcome.error().kind != ErrorKind::NotFound) {
                failed = failed ? failed : outcome.error(); // the other blocks are served
                continue;
            }
            for (const Release& request : list) {
                all.unallocated.push_back(request.address);
            }
            continue;
        }
        for (const auto& [handle, count] : outcome->handles) {
            memo_.erase(handle);
            if (auto done = handles_.decrement(handle, cidr, count); !done) {
                failed = failed ? failed : done.error();
            }
            all.handles[handle] += count;
        }
        all.released.insert(all.released.end(), outcome->released.begin(), outcome->released.end());
        all.unallocated.insert(all.unallocated.end(), outcome->unallocated.begin(),
                               outcome->unallocated.end());
    }
    if (failed) {
        return Unexpected(*failed);
    }
    return all;
}

// The block that holds an address: of the size that its pool says, else whichever there is.
Result<Cidr> Allocator::Impl::block_holding(const Environment& environment,
                                            const IpAddress& address) {
    if (const api::IpPool* pool = pool_of(environment.pools, address); pool != nullptr) {
        Cidr cidr = block_of(address, pool->block_size);
        if (own_.find(cidr) != nullptr) {
            return cidr;
        }
        auto block = repository_.block(cidr);
        if (block) {
            return cidr;
        }
        if (block.error().kind != ErrorKind::NotFound) {
            return Unexpected(block.error());
        }
    }
    TRY_ASSIGN(auto blocks, repository_.blocks());
    for (const auto& block : blocks) {
        if (block.value.cidr().contains(address)) {
            return block.value.cidr();
        }
    }
    return fail(ErrorKind::NotFound, fmt::format("no block holds {}", address.text()));
}

} // namespace manx::ipam
