// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/repair.h"

#include <nlohmann/json.hpp>

#include <utility>

namespace manx::ipam {

namespace {

// An address of a pod that exists is left alone for that long: its sandbox may be under way, which
// the pod does not name yet.
constexpr std::chrono::minutes kAttaching{1};

Options complete(Options options) {
    if (!options.backoff) {
        options.backoff = random_backoff;
    }
    options.max_age = std::chrono::milliseconds(0);
    return options;
}

// What is gone, or somebody else was faster: not our business any more.
Result<bool> done(const Result<void>& result) {
    if (result) {
        return true;
    }
    auto kind = result.error().kind;
    if (kind == ErrorKind::NotFound || kind == ErrorKind::Conflict ||
        kind == ErrorKind::ConfigReality) {
        return false;
    }
    return Unexpected(result.error());
}

} // namespace

Repair::Repair(datastore::Store& store, Options options)
    : store_(store), options_(complete(std::move(options))),
      retry_{options_.retries, options_.backoff}, repository_(store),
      claims_(repository_, options_.clock, retry_),
      // An owner of nothing: only what it releases matters.
      allocator_(store, BlockOwner{"manx-ipam-repair", "virtual"}, options_) {
}

Result<bool> Repair::node_exists(const std::string& node) {
    auto found = store_.get({api::Kind::Node, "", node});
    if (!found && found.error().kind != ErrorKind::NotFound) {
        return Unexpected(found.error());
    }
    return found.has_value();
}

Result<bool> Repair::still_leaked(const Leak& leak) {
    std::string name = pod_of(leak.attribute);
    std::optional<SeenPod> pod;
    if (!name.empty()) {
        auto slash = name.find('/');
        auto object = store_.get({api::Kind::Pod, name.substr(0, slash), name.substr(slash + 1)});
        if (!object && object.error().kind != ErrorKind::NotFound) {
            return Unexpected(object.error());
        }
        if (object) {
            TRY_ASSIGN(auto json, api::parse_json(object->json));
            TRY_ASSIGN(pod, SeenPod::from_json(json));
        }
    }
    bool exists = false;
    if (std::string node = node_of(leak.attribute); !node.empty()) {
        TRY_ASSIGN(exists, node_exists(node));
    }
    auto at = leak.attribute.secondary.find("timestamp");
    auto allocated = parse_go_time(at == leak.attribute.secondary.end() ? "" : at->second);
    if (pod && allocated && std::chrono::abs(options_.clock() - *allocated) < kAttaching) {
        return false;
    }
    Use use = judge(leak.address, leak.attribute, pod ? &*pod : nullptr, exists);
    return use == Use::NodeGone || (use == Use::Leaked && !leak.node_gone);
}

Result<unsigned> Repair::release(std::span<const Leak> leaks) {
    std::vector<Release> requests;
    for (const Leak& leak : leaks) {
        TRY_ASSIGN(bool leaked, still_leaked(leak));
        if (!leaked) {
            return 0U; // of a handle all or none
        }
        requests.push_back(
            {leak.address, leak.attribute.handle_id.value_or(""), leak.sequence_number});
    }
    auto released = allocator_.release_ips(requests);
    if (released) {
        return static_cast<unsigned>(released->released.size());
    }
    return released.error().kind == ErrorKind::ConfigReality ? Result<unsigned>(0U)
                                                             : Unexpected(released.error());
}

Result<bool> Repair::fix(const HandleFault& fault) {
    auto handle = repository_.handle(fault.id);
    if (!handle && handle.error().kind != ErrorKind::NotFound) {
        return Unexpected(handle.error());
    }
    if ((handle ? handle->resource_version : "") != fault.resource_version) {
        return false; // somebody is at work with it
    }
    std::map<std::string, int> counts;
    std::set<Cidr> blocks;
    for (const auto& [cidr, count] : fault.actual) {
        blocks.insert(cidr);
    }
    if (handle) {
        for (const auto& [text, count] : handle->value.block) {
            if (auto cidr = Cidr::parse(text)) {
                blocks.insert(*cidr);
            }
        }
    }
    for (const Cidr& cidr : blocks) {
        auto block = repository_.block(cidr);
        if (!block && block.error().kind != ErrorKind::NotFound) {
            return Unexpected(block.error());
        }
        auto held = block ? block->value.addresses_of(fault.id).size() : 0;
        if (held > 0) {
            counts[cidr.text()] = static_cast<int>(held);
        }
    }
    if (handle) {
        if (handle->value.block == counts && !counts.empty()) {
            return false;
        }
        handle->value.block = counts;
        return done(counts.empty() ? repository_.remove(*handle) : repository_.write(*handle));
    }
    if (counts.empty()) {
        return false;
    }
    api::IpamHandle fresh;
    fresh.handle_id = fault.id;
    fresh.block = counts;
    auto created = repository_.create(fresh);
    if (!created) {
        return created.error().kind == ErrorKind::AlreadyExists ? Result<bool>(false)
                                                                : Unexpected(created.error());
    }
    return true;
}

Result<bool> Repair::fix(const AffinityFinding& finding) {
    auto affinity = repository_.affinity(finding.owner, finding.block);
    if (!affinity) {
        return affinity.error().kind == ErrorKind::NotFound ? Result<bool>(false)
                                                            : Unexpected(affinity.error());
    }
    if (affinity->resource_version != finding.resource_version) {
        return false;
    }
    switch (finding.fault) {
    case AffinityFault::NodeGone: {
        TRY_ASSIGN(bool exists, node_exists(finding.owner.name));
        if (exists) {
            return false;
        }
        // The block goes with it, unless it is in use by pods elsewhere: then it waits.
        auto released = claims_.release(finding.owner, finding.block, {.require_empty = true});
        if (!released && released.error().kind == ErrorKind::NotFound) {
            return true; // there was no block of it; the affinity has been dropped
        }
        return done(released);
    }
    case AffinityFault::NoBlock:
    case AffinityFault::OtherOwner: {
        auto block = repository_.block(finding.block);
        if (!block && block.error().kind != ErrorKind::NotFound) {
            return Unexpected(block.error());
        }
        if (block && block->value.affinity() == finding.owner.text()) {
            return false;
        }
        return done(repository_.remove(*affinity));
    }
    case AffinityFault::NoLabels:
        return done(repository_.write(*affinity)); // which sets them
    case AffinityFault::Unfinished: {
        if (affinity->value.state == api::AffinityState::PendingDeletion) {
            auto released = claims_.release(finding.owner, finding.block, {.require_empty = true});
            if (released || released.error().kind != ErrorKind::ConfigReality) {
                return done(released);
            }
            return true; // in use: it has been confirmed again
        }
        auto block = claims_.through_affinity(finding.owner, finding.block, false);
        return done(block ? Result<void>() : Result<void>(Unexpected(block.error())));
    }
    }
    return false;
}

Result<bool> Repair::release_empty(const BlockFinding& finding) {
    return done(claims_.release(BlockOwner::parse(finding.affinity), finding.block,
                                {true, finding.sequence_number}));
}

Result<bool> Repair::restore_affinity(const BlockFinding& finding) {
    auto block = repository_.block(finding.block);
    if (!block) {
        return block.error().kind == ErrorKind::NotFound ? Result<bool>(false)
                                                         : Unexpected(block.error());
    }
    if (block->value.affinity() != finding.affinity) {
        return false;
    }
    auto claimed = claims_.claim(BlockOwner::parse(finding.affinity), finding.block);
    if (!claimed) {
        return claimed.error().kind == ErrorKind::AlreadyExists ? Result<bool>(false)
                                                                : Unexpected(claimed.error());
    }
    return true;
}

Result<bool> Repair::release_of_gone(const BlockFinding& finding) {
    BlockOwner owner = BlockOwner::parse(finding.affinity);
    TRY_ASSIGN(bool exists, node_exists(owner.name));
    if (exists) {
        return false;
    }
    return done(claims_.release(owner, finding.block, {true, finding.sequence_number}));
}

Result<bool> Repair::remove_unowned(const BlockFinding& finding) {
    auto block = repository_.block(finding.block);
    if (!block) {
        return block.error().kind == ErrorKind::NotFound ? Result<bool>(false)
                                                         : Unexpected(block.error());
    }
    if (!block->value.affinity().empty() || !block->value.empty()) {
        return false;
    }
    return done(repository_.remove(*block));
}

Result<unsigned> Repair::free_cooled(const BlockFinding& finding, std::chrono::seconds cooldown) {
    auto block = repository_.block(finding.block);
    if (!block) {
        return block.error().kind == ErrorKind::NotFound ? Result<unsigned>(0U)
                                                         : Unexpected(block.error());
    }
    unsigned freed = block->value.collect(options_.clock(), cooldown);
    if (freed == 0) {
        return 0U;
    }
    TRY_ASSIGN(bool written, done(repository_.write(*block)));
    return written ? freed : 0U;
}

Result<bool> Repair::rebuild(const BlockFinding& finding) {
    auto block = repository_.block(finding.block);
    if (!block) {
        return block.error().kind == ErrorKind::NotFound ? Result<bool>(false)
                                                         : Unexpected(block.error());
    }
    if (block->value.data().sequence_number != finding.sequence_number) {
        return false;
    }
    if (!block->value.damaged()) {
        return false;
    }
    block->value.list_lost();
    return done(repository_.write(*block));
}

Result<bool> Repair::finish_delete(const MarkedDeleted& marked) {
    return done(repository_.finish_delete(marked));
}

Result<std::optional<Leak>> Repair::find(const Release& wanted) {
    TRY_ASSIGN(auto blocks, repository_.blocks());
    for (const auto& stored : blocks) {
        auto found = stored.value.find(wanted.address);
        if (!found ||
            (wanted.handle && clean_handle(found->attribute->handle_id.value_or("")) !=
                                  clean_handle(*wanted.handle)) ||
            (wanted.sequence_number && found->sequence_number &&
             *wanted.sequence_number != *found->sequence_number)) {
            continue;
        }
        return Leak{wanted.address, stored.value.cidr(), *found->attribute, found->sequence_number};
    }
    return std::optional<Leak>();
}

} // namespace manx::ipam
