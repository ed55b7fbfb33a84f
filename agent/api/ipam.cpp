// SPDX-License-Identifier: Apache-2.0
#include "agent/api/ipam.h"

#include "agent/api/fields.h"
#include "agent/api/names.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

namespace manx::api {

namespace {

using nlohmann::json;

// The largest block that Calico allows is a /20 (or /116).
constexpr size_t kMaxBlockAddresses = 4096;

template <typename T>
Result<T> done(T&& value, const Problems& problems) {
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return std::forward<T>(value);
}

void put(json& spec, const char* name, const std::string& value) {
    if (!value.empty()) {
        spec[name] = value;
    }
}

// -1, which is neither an index nor an ordinal, for what is far outside.
int number_in(const json& item) {
    bool fits =
        item.is_number_unsigned() ? item.get<uint64_t>() <= INT32_MAX : item.get<int64_t>() >= 0;
    return fits ? item.get<int>() : -1;
}

void read_allocations(const Fields& spec, IpamBlock& block) {
    const json* list = spec.find("allocations");
    if (list == nullptr) {
        return;
    }
    if (!list->is_array()) {
        spec.wrong("allocations", "expected a list");
        return;
    }
    block.allocations.reserve(list->size());
    for (const auto& item : *list) {
        if (item.is_null()) {
            block.allocations.emplace_back();
        } else if (item.is_number_integer()) {
            block.allocations.emplace_back(number_in(item));
        } else {
            spec.wrong("allocations", "expected null or an index into spec.attributes");
            return;
        }
    }
}

void read_unallocated(const Fields& spec, IpamBlock& block) {
    const json* list = spec.find("unallocated");
    if (list == nullptr) {
        return;
    }
    if (!list->is_array()) {
        spec.wrong("unallocated", "expected a list");
        return;
    }
    for (const auto& item : *list) {
        if (!item.is_number_integer()) {
            spec.wrong("unallocated", "expected ordinals of the block, each once");
            return;
        }
        block.unallocated.push_back(number_in(item));
    }
}

void read_sequence_numbers(const Fields& spec, IpamBlock& block) {
    for (const auto& [key, value] : spec.at("sequenceNumberForAllocation").raw().items()) {
        int ordinal = -1;
        auto [end, ec] = std::from_chars(key.data(), key.data() + key.size(), ordinal);
        if (ec != std::errc{} || end != key.data() + key.size() || ordinal < 0 ||
            !value.is_number_unsigned()) {
            spec.wrong("sequenceNumberForAllocation", "expected ordinals with whole numbers");
            return;
        }
        block.sequence_number_for_allocation[ordinal] = value.get<uint64_t>();
    }
}

} // namespace

Result<IpamBlock> IpamBlock::from_json(const json& object) {
    Problems problems{subject_of(Kind::IpamBlock, object), {}};
    IpamBlock block;
    block.meta = read_meta(Kind::IpamBlock, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.require("cidr");
    spec.get("cidr", block.cidr);
    spec.get("affinity", block.affinity);
    spec.get("affinityClaimTime", block.affinity_claim_time);
    spec.each("attributes", [&](const Fields& item) {
        AllocationAttribute attribute;
        item.get("handle_id", attribute.handle_id);
        item.get("secondary", attribute.secondary);
        item.get("alternateOwnerAttrs", attribute.alternate_owner);
        item.get("releasedAt", attribute.released_at);
        block.attributes.push_back(std::move(attribute));
    });
    read_allocations(spec, block);
    if (!problems.first &&
        (block.cidr.size() > kMaxBlockAddresses || block.allocations.size() != block.cidr.size())) {
        spec.wrong("allocations",
                   fmt::format("{} entries for {}", block.allocations.size(), block.cidr.text()));
    }
    read_unallocated(spec, block);
    spec.get("sequenceNumber", block.sequence_number);
    read_sequence_numbers(spec, block);
    spec.get("strictAffinity", block.strict_affinity);
    spec.get("deleted", block.deleted);
    return done(std::move(block), problems);
}

Result<void> IpamBlock::validate() const {
    auto invalid = [&](std::string_view field, std::string_view what) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("IPAMBlock {}: spec.{}: {}", meta.name, field, what));
    };
    for (const auto& index : allocations) {
        if (index && (*index < 0 || static_cast<size_t>(*index) >= attributes.size())) {
            return invalid("allocations", "expected null or an index into spec.attributes");
        }
    }
    std::vector<bool> listed(allocations.size());
    for (int ordinal : unallocated) {
        auto at = static_cast<size_t>(ordinal);
        if (ordinal < 0 || at >= listed.size() || listed[at]) {
            return invalid("unallocated", "expected ordinals of the block, each once");
        }
        if (allocations[at]) {
            return invalid("unallocated", fmt::format("{} is in spec.allocations", ordinal));
        }
        listed[at] = true;
    }
    for (size_t i = 0; i < listed.size(); i++) {
        if (!allocations[i] && !listed[i]) {
            return invalid("unallocated", fmt::format("lacks {}, which spec.allocations does not "
                                                      "have either",
                                                      i));
        }
    }
    return {};
}

Result<json> IpamBlock::to_json() const {
    json spec = {{"cidr", cidr.text()},
                 {"unallocated", unallocated},
                 {"sequenceNumber", sequence_number},
                 {"strictAffinity", strict_affinity},
                 {"deleted", deleted}};
    put(spec, "affinity", affinity);
    put(spec, "affinityClaimTime", affinity_claim_time);
    json& all = spec["allocations"] = json::array();
    for (const auto& allocation : allocations) {
        all.push_back(allocation ? json(*allocation) : json());
    }
    json& list = spec["attributes"] = json::array();
    for (const auto& attribute : attributes) {
        json item = json::object();
        if (attribute.handle_id) {
            item["handle_id"] = *attribute.handle_id;
        }
        if (!attribute.secondary.empty()) {
            item["secondary"] = attribute.secondary;
        }
        if (!attribute.alternate_owner.empty()) {
            item["alternateOwnerAttrs"] = attribute.alternate_owner;
        }
        put(item, "releasedAt", attribute.released_at);
        list.push_back(std::move(item));
    }
    json& numbers = spec["sequenceNumberForAllocation"] = json::object();
    for (const auto& [ordinal, number] : sequence_number_for_allocation) {
        numbers[std::to_string(ordinal)] = number;
    }
    ObjectMeta own = meta;
    own.name = block_name(cidr);
    return make_stored(Kind::IpamBlock, own, std::move(spec));
}

Result<BlockAffinity> BlockAffinity::from_json(const json& object) {
    Problems problems{subject_of(Kind::BlockAffinity, object), {}};
    BlockAffinity affinity;
    affinity.meta = read_meta(Kind::BlockAffinity, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.require("cidr");
    spec.get("cidr", affinity.cidr);
    spec.get("node", affinity.node);
    std::string type;
    spec.get("type", type);
    if (!type.empty()) {
        affinity.type = type;
    }
    spec.get_enum("state", affinity.state,
                  {{"confirmed", AffinityState::Confirmed},
                   {"pending", AffinityState::Pending},
                   {"pendingDeletion", AffinityState::PendingDeletion}});
    const json* deleted = spec.find("deleted"); // a string in v1, a boolean in v3
    if (deleted != nullptr && deleted->is_string()) {
        affinity.deleted = *deleted == "true";
    } else {
        spec.get("deleted", affinity.deleted);
    }
    return done(std::move(affinity), problems);
}

Result<json> BlockAffinity::to_json() const {
    constexpr std::array kStates{"confirmed", "pending", "pendingDeletion"};
    json spec = {{"cidr", cidr.text()},
                 {"node", node},
                 {"type", type},
                 {"state", kStates.at(static_cast<size_t>(state))},
                 {"deleted", deleted ? "true" : "false"}};
    ObjectMeta own = meta;
    own.name = affinity_name(node, cidr);
    for (auto& [key, value] : affinity_labels(node, type, cidr.family())) {
        own.labels[key] = value;
    }
    return make_stored(Kind::BlockAffinity, own, std::move(spec));
}

bool BlockAffinity::labelled() const {
    const auto wanted = affinity_labels(node, type, cidr.family());
    return std::ranges::all_of(wanted, [&](const auto& label) {
        auto at = meta.labels.find(label.first);
        return at != meta.labels.end() && at->second == label.second;
    });
}

Result<IpamHandle> IpamHandle::from_json(const json& object) {
    Problems problems{subject_of(Kind::IpamHandle, object), {}};
    IpamHandle handle;
    handle.meta = read_meta(Kind::IpamHandle, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("handleID", handle.handle_id);
    if (handle.handle_id.empty()) {
        handle.handle_id = handle.meta.name;
    }
    for (const auto& [key, value] : spec.at("block").raw().items()) {
        if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
            value.get<int64_t>() > INT32_MAX) {
            spec.wrong("block", fmt::format("\"{}\": expected a number of addresses", key));
        } else {
            handle.block[key] = value.get<int>();
        }
    }
    spec.get("deleted", handle.deleted);
    return done(std::move(handle), problems);
}

Result<json> IpamHandle::to_json() const {
    json spec = {{"handleID", handle_id}, {"block", json(block)}, {"deleted", deleted}};
    ObjectMeta own = meta;
    own.name = handle_name(handle_id);
    return make_stored(Kind::IpamHandle, own, std::move(spec));
}

Result<IpamConfig> IpamConfig::from_json(const json& object) {
    Problems problems{subject_of(Kind::IpamConfig, object), {}};
    IpamConfig config;
    config.meta = read_meta(Kind::IpamConfig, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("strictAffinity", config.strict_affinity);
    spec.get("autoAllocateBlocks", config.auto_allocate_blocks);
    spec.get("maxBlocksPerHost", config.max_blocks_per_host);
    spec.get("ipCooldownSeconds", config.ip_cooldown_seconds);
    spec.get("kubeVirtVMAddressPersistence", config.kubevirt_vm_address_persistence);
    return done(std::move(config), problems);
}

Result<json> IpamConfig::to_json() const {
    json spec = {{"strictAffinity", strict_affinity}, {"autoAllocateBlocks", auto_allocate_blocks}};
    if (max_blocks_per_host != 0) {
        spec["maxBlocksPerHost"] = max_blocks_per_host;
    }
    if (ip_cooldown_seconds != 0) {
        spec["ipCooldownSeconds"] = ip_cooldown_seconds;
    }
    put(spec, "kubeVirtVMAddressPersistence", kubevirt_vm_address_persistence);
    ObjectMeta own = meta;
    own.name = "default";
    return make_stored(Kind::IpamConfig, own, std::move(spec));
}

Result<void> IpamConfig::validate() const {
    auto invalid = [&](std::string_view field, std::string_view what) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("IPAMConfig {}: spec.{}: {}", meta.name, field, what));
    };
    if (meta.name != "default") {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("IPAMConfig {}: metadata.name: expected default", meta.name));
    }
    if (!strict_affinity && !auto_allocate_blocks) {
        return invalid("autoAllocateBlocks", "false needs strictAffinity true");
    }
    if (max_blocks_per_host < 0) {
        return invalid("maxBlocksPerHost", "expected 0 or more");
    }
    if (max_blocks_per_host > 0 && !strict_affinity) {
        return invalid("maxBlocksPerHost", "needs strictAffinity true");
    }
    if (ip_cooldown_seconds < 0 || ip_cooldown_seconds > 1200) {
        return invalid("ipCooldownSeconds", "expected 0 to 1200");
    }
    const auto& kubevirt = kubevirt_vm_address_persistence;
    if (!kubevirt.empty() && kubevirt != "Enabled" && kubevirt != "Disabled") {
        return invalid("kubeVirtVMAddressPersistence", "expected Enabled or Disabled");
    }
    return {};
}

Result<IpReservation> IpReservation::from_json(const json& object) {
    Problems problems{subject_of(Kind::IpReservation, object), {}};
    IpReservation reservation;
    reservation.meta = read_meta(Kind::IpReservation, object, problems);
    Fields(&object, "", problems).at("spec").get("reservedCIDRs", reservation.reserved_cidrs);
    return done(std::move(reservation), problems);
}

Result<json> IpReservation::to_json() const {
    json list = json::array();
    for (const auto& cidr : reserved_cidrs) {
        list.push_back(cidr.text());
    }
    json spec = {{"reservedCIDRs", std::move(list)}};
    return make_stored(Kind::IpReservation, meta, std::move(spec));
}

} // namespace manx::api
