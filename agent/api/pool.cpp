// SPDX-License-Identifier: Apache-2.0
#include "agent/api/pool.h"

#include "agent/api/fields.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace manx::api {

namespace {

constexpr auto kWorkload = static_cast<uint8_t>(PoolUse::Workload);
constexpr auto kTunnel = static_cast<uint8_t>(PoolUse::Tunnel);
constexpr auto kLoadBalancer = static_cast<uint8_t>(PoolUse::LoadBalancer);

void read_uses(const Fields& spec, IpPool& pool) {
    std::vector<std::string> words;
    spec.get("allowedUses", words);
    if (words.empty()) {
        return;
    }
    pool.uses = 0;
    for (const auto& word : words) {
        if (word == "Workload") {
            pool.uses |= kWorkload;
        } else if (word == "Tunnel") {
            pool.uses |= kTunnel;
        } else if (word == "LoadBalancer") {
            pool.uses |= kLoadBalancer;
        } else {
            spec.wrong("allowedUses",
                       fmt::format("\"{}\": expected Workload, Tunnel or LoadBalancer", word));
        }
    }
}

Unexpected invalid(const IpPool& pool, std::string_view field, std::string_view what) {
    return fail(ErrorKind::ConfigInvalid,
                fmt::format("{}: spec.{}: {}", pool.subject(), field, what));
}

} // namespace

Result<IpPool> IpPool::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::IpPool, object), {}};
    IpPool pool;
    pool.meta = read_meta(Kind::IpPool, object, problems);
    Fields root(&object, "", problems);
    Fields spec = root.at("spec");
    spec.require("cidr");
    spec.get("cidr", pool.cidr);
    pool.block_size = default_block_size(pool.cidr.family());
    unsigned block_size = 0;
    spec.get("blockSize", block_size);
    if (block_size > pool.cidr.address().bits()) {
        spec.wrong("blockSize", fmt::format("{}: expected a prefix length up to {}", block_size,
                                            pool.cidr.address().bits()));
    } else if (block_size != 0) {
        pool.block_size = block_size;
    }
    for (auto [name, mode] : {std::pair{"ipipMode", &pool.ipip}, {"vxlanMode", &pool.vxlan}}) {
        spec.get_enum(name, *mode,
                      {{"Never", EncapMode::Never},
                       {"Always", EncapMode::Always},
                       {"CrossSubnet", EncapMode::CrossSubnet}});
    }
    spec.get("natOutgoing", pool.nat_outgoing);
    spec.get("disabled", pool.disabled);
    spec.get("disableBGPExport", pool.disable_bgp_export);
    spec.get_enum("assignmentMode", pool.assignment_mode,
                  {{"Automatic", AssignmentMode::Automatic}, {"Manual", AssignmentMode::Manual}});
    std::string selector;
    spec.get("nodeSelector", selector);
    if (!selector.empty()) {
        pool.node_selector = std::move(selector);
    }
    spec.get("namespaceSelector", pool.namespace_selector);
    read_uses(spec, pool);
    root.at("status").each("conditions", [&](const Fields& condition) {
        std::string type;
        std::string status;
        condition.get("type", type);
        condition.get("status", status);
        if (type == "Allocatable" && status == "False") {
            pool.allocatable = false;
        }
    });
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return pool;
}

Result<void> IpPool::validate() const {
    bool v4 = cidr.family() == Family::V4;
    unsigned min = v4 ? 20 : 116;
    unsigned max = v4 ? 32 : 128;
    if (block_size < min || block_size > max) {
        return invalid(*this, "blockSize",
                       fmt::format("{}: expected {} to {} for {}", block_size, min, max,
                                   v4 ? "IPv4" : "IPv6"));
    }
    if (!disabled && cidr.length() > block_size) {
        return invalid(*this, "cidr",
                       fmt::format("{} is smaller than a block of /{}", cidr.text(), block_size));
    }
    Cidr link_local = v4 ? Cidr(IpAddress::v4(0xa9fe0000), 16) : *Cidr::parse("fe80::/10");
    if (cidr.overlaps(link_local)) {
        return invalid(
            *this, "cidr",
            fmt::format("{} overlaps the link-local range {}", cidr.text(), link_local.text()));
    }
    if (ipip != EncapMode::Never && vxlan != EncapMode::Never) {
        return invalid(*this, "vxlanMode", "ipipMode is set too; expected at most one of them");
    }
    if (ipip != EncapMode::Never && !v4) {
        return invalid(*this, "ipipMode", "expected Never: IPIP does not carry IPv6");
    }
    if ((uses & kTunnel) != 0 && !namespace_selector.empty()) {
        return invalid(*this, "namespaceSelector", "not with allowedUses Tunnel");
    }
    if ((uses & kLoadBalancer) != 0) {
        if (uses != kLoadBalancer) {
            return invalid(*this, "allowedUses", "LoadBalancer excludes other uses");
        }
        if (ipip != EncapMode::Never || vxlan != EncapMode::Never) {
            return invalid(*this, "allowedUses", "LoadBalancer excludes ipipMode and vxlanMode");
        }
        if (node_selector != "all()") {
            return invalid(*this, "nodeSelector", "expected all() with allowedUses LoadBalancer");
        }
        if (disable_bgp_export) {
            return invalid(*this, "disableBGPExport", "not with allowedUses LoadBalancer");
        }
    }
    return {};
}

Result<void> validate_among(const IpPool& pool, std::span<const IpPool> others) {
    for (const auto& other : others) {
        if (other.meta.name == pool.meta.name) {
            if (other.cidr != pool.cidr) {
                return invalid(pool, "cidr",
                               fmt::format("{}: cannot change; it is {}", pool.cidr.text(),
                                           other.cidr.text()));
            }
            if (other.block_size != pool.block_size) {
                return invalid(
                    pool, "blockSize",
                    fmt::format("{}: cannot change; it is {}", pool.block_size, other.block_size));
            }
        } else if (other.cidr.overlaps(pool.cidr)) {
            return invalid(pool, "cidr",
                           fmt::format("{} overlaps {} of {}", pool.cidr.text(), other.cidr.text(),
                                       other.subject()));
        }
    }
    return {};
}

} // namespace manx::api
