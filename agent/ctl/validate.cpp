// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/validate.h"

#include "agent/api/bgp.h"
#include "agent/api/cluster_information.h"
#include "agent/api/felix_configuration.h"
#include "agent/api/host_endpoint.h"
#include "agent/api/ipam.h"
#include "agent/api/namespace.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"
#include "agent/api/policy.h"
#include "agent/api/pool.h"
#include "agent/api/selector.h"
#include "agent/api/service.h"
#include "agent/api/tier.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace manx::ctl {

namespace {

using api::Kind;
using nlohmann::json;

template <typename T>
Result<void> readable(const json& object) {
    TRY(T::from_json(object));
    return {};
}

template <typename T>
Result<void> readable_and_valid(const json& object) {
    TRY_ASSIGN(T value, T::from_json(object));
    return value.validate();
}

Result<void> validate_pool(const json& object) {
    TRY_ASSIGN(auto pool, api::IpPool::from_json(object));
    for (auto [field, text] : {std::pair{"nodeSelector", &pool.node_selector},
                               {"namespaceSelector", &pool.namespace_selector}}) {
        if (auto selector = api::Selector::parse(*text); !selector) {
            return fail(ErrorKind::ConfigInvalid, fmt::format("{}: spec.{}: {}", pool.subject(),
                                                              field, selector.error().message));
        }
    }
    return pool.validate();
}

bool has_spec(const json& object) {
    return object.contains("spec") && object["spec"].is_object();
}

// Blocks of another size inside a new pool would be counted twice.
Result<void> check_blocks(const api::IpPool& pool, datastore::Store& store) {
    TRY_ASSIGN(auto blocks, store.list(Kind::IpamBlock));
    for (const auto& object : blocks.objects) {
        auto parsed = api::parse_json(object.json);
        auto block = parsed ? api::IpamBlock::from_json(*parsed) : Unexpected(parsed.error());
        if (block && !block->deleted && block->cidr.overlaps(pool.cidr) &&
            block->cidr.length() != pool.block_size) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: spec.blockSize: {}, but {} exists: {}", pool.subject(),
                                    pool.block_size, object.key.text(), block->cidr.text()));
        }
    }
    return {};
}

Result<void> validate_pools(std::span<const Resource> resources, datastore::Store& store) {
    if (std::ranges::none_of(resources, [](const auto& r) { return r.key.kind == Kind::IpPool; })) {
        return {};
    }
    TRY_ASSIGN(auto stored, store.list(Kind::IpPool));
    std::vector<api::IpPool> pools;
    for (const auto& object : stored.objects) {
        auto parsed = api::parse_json(object.json);
        auto pool = parsed ? api::IpPool::from_json(*parsed) : Unexpected(parsed.error());
        if (pool) { // one that is broken is in nobody's way
            pools.push_back(std::move(*pool));
        }
    }
    for (const auto& resource : resources) {
        if (resource.key.kind != Kind::IpPool) {
            continue;
        }
        TRY_ASSIGN(auto pool, api::IpPool::from_json(resource.object));
        TRY(api::validate_among(pool, pools));
        auto known = std::ranges::any_of(
            pools, [&](const auto& other) { return other.meta.name == pool.meta.name; });
        if (!known) {
            TRY(check_blocks(pool, store));
            pools.push_back(std::move(pool));
        }
    }
    return {};
}

} // namespace

Result<void> validate_object(const Resource& resource) {
    const json& object = resource.object;
    Kind kind = resource.key.kind;
    if (api::is_policy(kind) || kind == Kind::Tier || kind == Kind::NetworkSet ||
        kind == Kind::GlobalNetworkSet) {
        return api::validate_policy(kind, object);
    }
    switch (kind) {
    case Kind::IpPool:
        return validate_pool(object);
    case Kind::BgpConfiguration:
        return readable_and_valid<api::BgpConfiguration>(object);
    case Kind::BgpPeer:
        return readable_and_valid<api::BgpPeer>(object);
    case Kind::BgpFilter:
        return readable_and_valid<api::BgpFilter>(object);
    case Kind::IpamConfig:
        return readable_and_valid<api::IpamConfig>(object);
    case Kind::IpamBlock:
        return readable_and_valid<api::IpamBlock>(object);
    case Kind::BlockAffinity:
        return readable<api::BlockAffinity>(object);
    case Kind::IpamHandle:
        return readable<api::IpamHandle>(object);
    case Kind::IpReservation:
        return readable<api::IpReservation>(object);
    case Kind::FelixConfiguration:
        return readable_and_valid<api::FelixConfiguration>(object);
    case Kind::ClusterInformation:
        return readable<api::ClusterInformation>(object);
    case Kind::HostEndpoint: {
        TRY_ASSIGN(auto endpoint, api::HostEndpoint::from_json(object));
        if (endpoint.interface_name.empty() && endpoint.expected_ips.empty()) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: spec: expected interfaceName or expectedIPs",
                                    resource.key.text()));
        }
        return {};
    }
    case Kind::Node:
        return readable<api::Node>(object);
    case Kind::Pod:
        return readable<api::Pod>(object);
    case Kind::Namespace:
        return readable<api::Namespace>(object);
    case Kind::ServiceAccount:
        return readable<api::ServiceAccount>(object);
    case Kind::Service:
        return readable<api::Service>(object);
    case Kind::EndpointSlice:
        return readable<api::EndpointSlice>(object);
    default:
        // Kinds that are kept for others: the shape only.
        if (kind != Kind::Secret && !has_spec(object)) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: spec: expected an object", resource.key.text()));
        }
        return {};
    }
}

Result<void> validate_all(std::span<const Resource> resources, datastore::Store& store) {
    for (const auto& resource : resources) {
        if (auto good = validate_object(resource); !good) {
            return Unexpected(good.error().within(resource.source));
        }
    }
    return validate_pools(resources, store);
}

Result<void> validate_removal(const datastore::Key& key, datastore::Store& store) {
    if (key.kind != Kind::Tier) {
        return {};
    }
    for (const auto& tier : api::builtin_tiers()) {
        if (tier.name == key.name) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: a built-in tier cannot be deleted", key.text()));
        }
    }
    for (Kind kind : {Kind::NetworkPolicy, Kind::GlobalNetworkPolicy, Kind::StagedNetworkPolicy,
                      Kind::StagedGlobalNetworkPolicy}) {
        TRY_ASSIGN(auto policies, store.list(kind));
        for (const auto& object : policies.objects) {
            auto parsed = api::parse_json(object.json);
            auto policy =
                parsed ? api::Policy::from_json(kind, *parsed) : Unexpected(parsed.error());
            if (policy && policy->tier == key.name) {
                return fail(ErrorKind::ConfigInvalid,
                            fmt::format("{}: {} is in it", key.text(), policy->text()));
            }
        }
    }
    return {};
}

} // namespace manx::ctl
