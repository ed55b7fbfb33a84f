// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/allocator.h"

#include "agent/api/names.h"
#include "agent/ipam/pools.h"
#include "agent/ipam/walk.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <utility>

namespace manx::ipam {

Allocator::Impl::Impl(datastore::Store& store, BlockOwner owner, Options options)
    : environment_(store, owner, options.max_age),
      own_(Repository(store),
           Claims(Repository(store), options.clock, {options.retries, options.backoff}), owner),
      store_(store), owner_(owner), options_(options), retry_{options.retries, options.backoff},
      repository_(store), claims_(repository_, options.clock, retry_),
      handles_(repository_, retry_) {
}

Result<void> Allocator::Impl::watch() {
    std::lock_guard lock(mutex_);
    TRY(environment_.watch());
    datastore::WatchHandler handler;
    handler.relist = [] {};
    handler.synced = [] {};
    handler.lost = [](const Error&) {}; // the store goes on trying, and lists anew
    handler.event = [this](const datastore::Event& event) {
        // Of all affinities of the cluster only those of this owner are looked into.
        const std::string& name = event.object.key.name;
        if (!name.starts_with(owner_.name.substr(0, 100))) { // longer names are shortened
            return;
        }
        auto json = api::parse_json(event.object.json);
        auto affinity = json ? api::BlockAffinity::from_json(*json)
                             : Result<api::BlockAffinity>(Unexpected(json.error()));
        if (!affinity || affinity->node != owner_.name || affinity->type != owner_.type) {
            return;
        }
        if (event.type == datastore::EventType::Deleted || affinity->deleted ||
            affinity->state != api::AffinityState::Confirmed) {
            own_.suspect(api::block_name(affinity->cidr));
        }
    };
    TRY_ASSIGN(affinity_watch_, store_.watch(api::Kind::BlockAffinity, std::move(handler)));
    return {};
}

Result<void> Allocator::Impl::warm_up() {
    std::lock_guard lock(mutex_);
    TRY_ASSIGN(auto environment, environment_.get());
    for (Family family : kFamilies) {
        TRY(own_.load(*environment, family));
    }
    return {};
}

Result<AssignedAddress> Allocator::Impl::assign_ip(const AssignRequest& request) {
    std::lock_guard lock(mutex_);
    TRY_ASSIGN(auto environment, environment_.get());
    const IpAddress& address = request.address;
    const api::IpPool* pool = pool_of(environment->pools, address);
    if (pool == nullptr || !is_allocatable(*pool)) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("{} is not in a configured and enabled pool", address.text()));
    }
    if (!pool->allows(request.use)) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("{}: {} is not allowed for the required use", pool->subject(),
                                address.text()));
    }
    // A block of another size, of before the pool's was changed, keeps its addresses.
    auto holding = block_holding(*environment, address);
    if (!holding && holding.error().kind != ErrorKind::NotFound) {
        return Unexpected(unreadable_is_reality(holding.error()));
    }
    Cidr cidr = holding ? *holding : block_of(address, pool->block_size);
    bool counted = false; // by the handle
    auto attempt = [&]() -> Result<AssignedAddress> {
        auto block = repository_.block(cidr);
        if (!block && block.error().kind == ErrorKind::NotFound) {
            TRY(check_claimable(cidr));
            block = claims_.claim(owner_, cidr);
            if (!block && block.error().kind == ErrorKind::AlreadyExists) {
                return fail(ErrorKind::Conflict, block.error().message);
            }
        }
        if (!block) {
            return Unexpected(unreadable_is_reality(block.error()));
        }
        bool own = block->value.affinity() == owner_.text();
        if (environment->config.strict_affinity && !own) {
            return fail(ErrorKind::ConfigReality,
                        fmt::format("{} is in a block of \"{}\" and strict affinity is enabled",
                                    address.text(), block->value.affinity()));
        }
        auto there = block->value.find(address);
        if (there && !request.handle.empty() &&
            clean_handle(there->attribute->handle_id.value_or("")) == request.handle) {
            return AssignedAddress{address, cidr};
        }
        (void)block->value.collect(options_.clock(), environment->cooldown());
        TRY(block->value.assign(address, {request.handle, request.attrs}));
        if (!counted && !request.handle.empty()) {
            Handles::Memo memo;
            TRY(handles_.increment(request.handle, cidr, 1, memo));
            counted = true;
        }
        TRY(repository_.write(*block).map_error(gone_is_conflict));
        if (own) {
            own_.put(std::move(*block));
        }
        return AssignedAddress{address, cidr};
    };
    auto result = retry_.run("assigning " + address.text(), attempt);
    bool known = !result && (result.error().kind == ErrorKind::Conflict ||
                             result.error().kind == ErrorKind::AlreadyExists ||
                             result.error().kind == ErrorKind::ConfigReality);
    if (known && counted) {
        (void)handles_.decrement(request.handle, cidr, 1); // else: collected
    }
    return result;
}

Result<std::vector<AssignedAddress>> Allocator::Impl::addresses_of(std::string_view handle) {
    std::vector<AssignedAddress> all;
    auto stored = repository_.handle(handle);
    if (!stored) {
        return stored.error().kind == ErrorKind::NotFound
                   ? Result<std::vector<AssignedAddress>>(all)
                   : Unexpected(stored.error());
    }
    for (const auto& [text, count] : stored->value.block) {
        TRY_ASSIGN(auto cidr, Cidr::parse(text));
        auto block = repository_.block(cidr);
        if (!block && block.error().kind != ErrorKind::NotFound) {
            return Unexpected(block.error());
        }
        if (block) {
            for (const IpAddress& address : block->value.addresses_of(handle)) {
                all.push_back({address, cidr});
            }
        }
    }
    return all;
}

Result<void> Allocator::Impl::claim_block(const Cidr& block) {
    std::lock_guard lock(mutex_);
    TRY(check_claimable(block));
    TRY_ASSIGN(auto claimed, claims_.claim(owner_, block));
    own_.put(std::move(claimed));
    return {};
}

Result<void> Allocator::Impl::release_block(const Cidr& block, bool require_empty) {
    std::lock_guard lock(mutex_);
    TRY_ASSIGN(auto environment, environment_.get());
    own_.forget(block);
    return claims_.release(owner_, block,
                           {.require_empty = require_empty, .cooldown = environment->cooldown()});
}

namespace {

Options complete(Options options) {
    if (!options.backoff) {
        options.backoff = random_backoff;
    }
    return options;
}

} // namespace

Allocator::Allocator(datastore::Store& store, std::string node, Options options)
    : Allocator(store, BlockOwner{std::move(node), "host"}, std::move(options)) {
}

Allocator::Allocator(datastore::Store& store, BlockOwner owner, Options options)
    : impl_(std::make_unique<Impl>(store, std::move(owner), complete(std::move(options)))) {
}

Allocator::~Allocator() = default;

Result<void> Allocator::watch() {
    return impl_->watch();
}

Result<void> Allocator::warm_up() {
    return impl_->warm_up();
}

void Allocator::note_node_changed() {
    impl_->environment_.note_node_changed();
}

void Allocator::invalidate() {
    std::lock_guard lock(impl_->mutex_);
    impl_->environment_.invalidate();
    impl_->own_.clear();
}

Result<Assigned> Allocator::auto_assign(const Request& request) {
    return std::move(impl_->auto_assign({&request, 1}).front());
}

std::vector<Result<Assigned>> Allocator::auto_assign_many(std::span<const Request> requests) {
    return impl_->auto_assign(requests);
}

Result<AssignedAddress> Allocator::assign_ip(const AssignRequest& request) {
    return impl_->assign_ip(request);
}

Result<void> Allocator::release_by_handle(std::string_view handle) {
    std::string one(handle);
    return std::move(impl_->release_by_handles({&one, 1}).front());
}

std::vector<Result<void>> Allocator::release_by_handles(std::span<const std::string> handles) {
    return impl_->release_by_handles(handles);
}

Result<ReleaseOutcome> Allocator::release_ips(std::span<const Release> requests) {
    return impl_->release_ips(requests);
}

Result<std::vector<AssignedAddress>> Allocator::addresses_of(std::string_view handle) {
    return impl_->addresses_of(handle);
}

Result<void> Allocator::claim_block(const Cidr& block) {
    return impl_->claim_block(block);
}

Result<void> Allocator::release_block(const Cidr& block, bool require_empty) {
    return impl_->release_block(block, require_empty);
}

std::vector<Cidr> Allocator::own_blocks() const {
    std::lock_guard lock(impl_->mutex_);
    return impl_->own_.all();
}

std::string pod_handle(std::string_view network, std::string_view container_id) {
    return fmt::format("{}.{}", network, container_id);
}

std::map<std::string, std::string> pod_attributes(std::string_view node, std::string_view ns,
                                                  std::string_view pod, Time now) {
    return {{"node", std::string(node)},
            {"namespace", std::string(ns)},
            {"pod", std::string(pod)},
            {"timestamp", go_time(now)}};
}

} // namespace manx::ipam
