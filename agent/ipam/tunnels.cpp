// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/tunnels.h"

#include "agent/api/node.h"
#include "agent/api/selector.h"
#include "agent/ipam/pools.h"
#include "agent/ipam/repository.h"
#include "agent/ipam/walk.h"
#include "base/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace manx::ipam {

struct Tunnels::Kind {
    const char* annotation;
    const char* handle; // and the node's name
    const char* type;   // of the attributes
    Family family;
    api::EncapMode api::IpPool::* mode; // null: WireGuard, which every pool may serve
    const char* key;                    // WireGuard: annotation of the public key
};

// What a pass goes by.
struct Tunnels::View {
    std::optional<api::Node> node; // nullopt: there is none
    std::vector<api::IpPool> pools;
    bool host_encryption = false;
    // A pool, or its nodeSelector, cannot be read: whether an address is still wanted is not known.
    bool doubtful = false;

    [[nodiscard]] std::string annotation(const char* name) const {
        auto found = node->meta.annotations.find(name);
        return found == node->meta.annotations.end() ? "" : found->second;
    }

    [[nodiscard]] std::vector<std::string> candidates(const Kind& kind) const {
        std::vector<std::string> names;
        if (kind.mode == nullptr && (host_encryption || annotation(kind.key).empty())) {
            return names;
        }
        for (const auto& pool : pools) {
            const bool encapsulates =
                kind.mode == nullptr || pool.*kind.mode != api::EncapMode::Never;
            if (pool.cidr.family() == kind.family && encapsulates && is_allocatable(pool) &&
                pool.allows(api::PoolUse::Tunnel) && selects_node(pool, node->meta.labels)) {
                names.push_back(pool.meta.name);
            }
        }
        return names;
    }

    [[nodiscard]] bool holds(const std::vector<std::string>& names,
                             const IpAddress& address) const {
        return std::ranges::any_of(pools, [&](const api::IpPool& pool) {
            return pool.cidr.contains(address) &&
                   std::ranges::find(names, pool.meta.name) != names.end();
        });
    }
};

namespace {

enum class Holder {
    Nobody,
    Nameless, // allocated without handle and attributes, as old Calico did for tunnels only
    Own,
    Other,
};

struct Holding {
    Holder holder = Holder::Nobody;
    std::optional<uint64_t> sequence_number;
};

bool same_attributes(const api::StringMap& there, const std::map<std::string, std::string>& own) {
    return std::ranges::all_of(own, [&](const auto& wanted) {
        auto at = there.find(wanted.first);
        return at != there.end() && at->second == wanted.second;
    });
}

// The block where its pool says, else whichever holds the address. NotFound. ConfigInvalid: it
// cannot be read, so nobody knows whose the address is.
Result<Stored<Block>> block_around(const Repository& repository, const api::IpPool* pool,
                                   const IpAddress& address) {
    if (pool != nullptr) {
        auto block = repository.block(block_of(address, pool->block_size));
        if (block || block.error().kind != ErrorKind::NotFound) {
            return block;
        }
    }
    TRY_ASSIGN(const auto cidr, repository.overlapping(Cidr(address, address.bits())));
    return repository.block(cidr.value_or(Cidr(address, address.bits())));
}

Result<Holding> holding(const Repository& repository, const api::IpPool* pool,
                        const IpAddress& address, const std::map<std::string, std::string>& own) {
    auto block = block_around(repository, pool, address);
    if (!block) {
        return block.error().kind == ErrorKind::NotFound ? Result<Holding>(Holding{})
                                                         : Unexpected(block.error());
    }
    const auto found = block->value.find(address);
    if (!found) {
        return Holding{};
    }
    const auto& attrs = found->attribute->secondary;
    Holder holder = Holder::Other;
    if (!attrs.empty() && same_attributes(attrs, own)) {
        holder = Holder::Own;
    } else if (attrs.empty() && found->attribute->handle_id.value_or("").empty()) {
        holder = Holder::Nameless;
    }
    return Holding{holder, found->sequence_number};
}

std::map<std::string, std::string> attributes(const std::string& node, const char* type) {
    return {{"node", node}, {"type", type}};
}

} // namespace

// In Calico's order.
const std::vector<Tunnels::Kind>& Tunnels::kinds() {
    static const std::vector<Kind> kAll{
        {api::kNodeWireguard4, "wireguard-tunnel-addr-", "wireguardTunnelAddress", Family::V4,
         nullptr, api::kNodeWireguardKey4},
        {api::kNodeWireguard6, "wireguard-v6-tunnel-addr-", "wireguardV6TunnelAddress", Family::V6,
         nullptr, api::kNodeWireguardKey6},
        {api::kNodeIpipTunnel4, "ipip-tunnel-addr-", "ipipTunnelAddress", Family::V4,
         &api::IpPool::ipip, nullptr},
        {api::kNodeVxlanTunnel4, "vxlan-tunnel-addr-", "vxlanTunnelAddress", Family::V4,
         &api::IpPool::vxlan, nullptr},
        {api::kNodeVxlanTunnel6, "vxlan-v6-tunnel-addr-", "vxlanV6TunnelAddress", Family::V6,
         &api::IpPool::vxlan, nullptr},
    };
    return kAll;
}

Tunnels::Tunnels(datastore::Store& store, Allocator& allocator, std::string node)
    : store_(store), allocator_(allocator), node_(std::move(node)) {
}

Result<TunnelPass> Tunnels::pass(bool host_encryption) {
    TRY_ASSIGN(const View view, read_view(host_encryption));
    TunnelPass out;
    if (!view.node) {
        return out;
    }
    for (const Kind& kind : kinds()) {
        if (auto done = settle(kind, view, out); !done) {
            out.errors.push_back(done.error().within(kind.type));
        }
    }
    return out;
}

Result<Tunnels::View> Tunnels::read_view(bool host_encryption) const {
    View view;
    view.host_encryption = host_encryption;
    auto object = store_.get({api::Kind::Node, "", node_});
    if (!object) {
        return object.error().kind == ErrorKind::NotFound ? Result<View>(std::move(view))
                                                          : Unexpected(object.error());
    }
    TRY_ASSIGN(auto json, api::parse_json(object->json));
    TRY_ASSIGN(view.node, api::Node::from_json(json));
    TRY_ASSIGN(auto listed, store_.list(api::Kind::IpPool));
    for (const auto& one : listed.objects) {
        auto text = api::parse_json(one.json);
        auto pool =
            text ? api::IpPool::from_json(*text) : Result<api::IpPool>(Unexpected(text.error()));
        if (pool && api::Selector::parse(pool->node_selector)) {
            view.pools.push_back(std::move(*pool));
        } else {
            view.doubtful = true;
        }
    }
    return view;
}

Result<void> Tunnels::settle(const Kind& kind, const View& view, TunnelPass& out) {
    const std::string text = view.annotation(kind.annotation);
    const auto current = IpAddress::parse(text);
    const auto names = view.candidates(kind);
    const std::string handle = kind.handle + node_;
    const bool fits = current && view.holds(names, *current);
    if (!fits && view.doubtful && (names.empty() || current)) {
        return {}; // what the node has stays
    }
    if (fits) {
        TRY_ASSIGN(const bool kept, keep(kind, view, *current));
        if (kept) {
            return release_all_but(handle, *current);
        }
    } else if (current) {
        TRY(release_nameless(view, *current)); // only the Node's object tells whose it is
    }
    if (names.empty()) {
        if (!text.empty()) {
            out.annotations[kind.annotation] = "";
            return {};
        }
        return release_all_but(handle, std::nullopt);
    }
    TRY_ASSIGN(const auto held, allocator_.addresses_of(handle));
    for (const auto& one : held) {
        if (view.holds(names, one.address)) {
            out.annotations[kind.annotation] = one.address.text();
            return {};
        }
    }
    Request request;
    request.handle = handle;
    request.attrs = attributes(node_, kind.type);
    request.use = api::PoolUse::Tunnel;
    const bool v4 = kind.family == Family::V4;
    (v4 ? request.num4 : request.num6) = 1;
    (v4 ? request.pools4 : request.pools6) = names;
    TRY_ASSIGN(const auto assigned, allocator_.auto_assign(request));
    const auto& address = (v4 ? assigned.v4 : assigned.v6).front().address;
    log::get("ipam")->info("tunnel address {}={}", kind.type, address.text());
    out.annotations[kind.annotation] = address.text();
    return {};
}

Result<bool> Tunnels::keep(const Kind& kind, const View& view, const IpAddress& address) {
    const auto attrs = attributes(node_, kind.type);
    TRY_ASSIGN(const auto found,
               holding(Repository(store_), pool_of(view.pools, address), address, attrs));
    if (found.holder == Holder::Own) {
        return true;
    }
    if (found.holder == Holder::Other) {
        return false;
    }
    if (found.holder == Holder::Nameless) {
        TRY(release_nameless(view, address));
    }
    auto assigned =
        allocator_.assign_ip({address, kind.handle + node_, attrs, api::PoolUse::Tunnel});
    if (assigned) {
        return true;
    }
    // Cooling down, or another's meanwhile: the node gets another one.
    if (assigned.error().kind == ErrorKind::AlreadyExists ||
        assigned.error().kind == ErrorKind::ConfigReality) {
        return false;
    }
    return Unexpected(assigned.error());
}

Result<void> Tunnels::release_all_but(const std::string& handle,
                                      const std::optional<IpAddress>& kept) {
    TRY_ASSIGN(const auto held, allocator_.addresses_of(handle));
    std::vector<Release> releases;
    for (const auto& one : held) {
        if (one.address != kept) {
            releases.push_back({one.address, handle, std::nullopt});
        }
    }
    if (releases.empty()) {
        return {};
    }
    TRY(allocator_.release_ips(releases));
    log::get("ipam")->info("released {} tunnel address(es) handle={}", releases.size(), handle);
    return {};
}

Result<void> Tunnels::release_nameless(const View& view, const IpAddress& address) {
    TRY_ASSIGN(const auto found,
               holding(Repository(store_), pool_of(view.pools, address), address, {}));
    if (found.holder != Holder::Nameless) {
        return {};
    }
    const Release release{address, std::nullopt, found.sequence_number};
    TRY(allocator_.release_ips({&release, 1}));
    return {};
}

} // namespace manx::ipam
