// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace manx::ipam {

namespace {

// The distance from the block's first address; nullopt outside of the block.
std::optional<size_t> ordinal_of(const api::IpamBlock& block, const IpAddress& address) {
    if (!block.cidr.contains(address)) {
        return std::nullopt;
    }
    uint64_t ordinal = address.minus(block.cidr.address());
    if (ordinal >= block.allocations.size()) {
        return std::nullopt;
    }
    return ordinal;
}

bool is_reserved(const IpAddress& address, std::span<const Cidr> reservations) {
    return std::any_of(reservations.begin(), reservations.end(),
                       [&](const Cidr& r) { return r.contains(address); });
}

bool is_windows_reserve(const api::AllocationAttribute& attribute) {
    return attribute.handle_id && clean_handle(*attribute.handle_id) == kWindowsHandle;
}

constexpr std::chrono::seconds kMaxCooldown{1200};

} // namespace

std::string_view clean_handle(std::string_view stored) {
    return stored.substr(0, stored.find('\r'));
}

Block::Block(api::IpamBlock data) : data_(std::move(data)), damaged_(!data_.validate()) {
    if (damaged_) {
        make_harmless();
    }
}

void Block::make_harmless() {
    std::vector<bool> listed(data_.allocations.size());
    std::erase_if(data_.unallocated, [&](int ordinal) {
        auto at = static_cast<size_t>(ordinal);
        bool good = ordinal >= 0 && at < listed.size() && !listed[at] && !data_.allocations[at];
        if (good) {
            listed[at] = true;
        }
        return !good;
    });
    std::optional<int> lost; // the attribute of all that have none
    for (auto& index : data_.allocations) {
        if (index && (*index < 0 || static_cast<size_t>(*index) >= data_.attributes.size() ||
                      index == lost)) {
            if (!lost) {
                lost = static_cast<int>(data_.attributes.size());
                data_.attributes.push_back(
                    {std::nullopt, {{"note", "lost its attribute"}}, {}, ""});
            }
            index = lost;
        }
    }
}

void Block::list_lost() {
    std::vector<bool> listed(data_.allocations.size());
    for (int ordinal : data_.unallocated) {
        listed[static_cast<size_t>(ordinal)] = true;
    }
    for (size_t i = 0; i < listed.size(); i++) {
        if (!listed[i] && !data_.allocations[i]) {
            data_.unallocated.push_back(static_cast<int>(i));
        }
    }
    damaged_ = false;
}

Block Block::create(const Cidr& cidr, std::string affinity, Time now) {
    api::IpamBlock data;
    data.cidr = cidr;
    auto size = static_cast<size_t>(cidr.size());
    data.allocations.resize(size);
    data.unallocated.resize(size);
    std::iota(data.unallocated.begin(), data.unallocated.end(), 0);
    // Never a number that a former block of this name has had.
    data.sequence_number = static_cast<uint64_t>(now.time_since_epoch().count());
    Block block(std::move(data));
    block.set_affinity(std::move(affinity), now);
    return block;
}

void Block::set_affinity(std::string affinity, Time now) {
    data_.affinity_claim_time = affinity.empty() ? "" : rfc3339(now);
    data_.affinity = std::move(affinity);
}

const api::AllocationAttribute* Block::attribute_of(size_t ordinal) const {
    const auto& index = data_.allocations[ordinal];
    if (!index) {
        return nullptr;
    }
    return &data_.attributes[static_cast<size_t>(*index)];
}

size_t Block::attribute_index(const Owner& owner) {
    api::AllocationAttribute wanted;
    if (!owner.handle.empty()) {
        wanted.handle_id = owner.handle;
    }
    wanted.secondary = owner.attrs;
    auto found = std::find(data_.attributes.begin(), data_.attributes.end(), wanted);
    if (found == data_.attributes.end()) {
        data_.attributes.push_back(std::move(wanted));
        return data_.attributes.size() - 1;
    }
    return static_cast<size_t>(found - data_.attributes.begin());
}

std::vector<IpAddress> Block::allocate(unsigned count, const Owner& owner,
                                       std::span<const Cidr> reservations) {
    std::vector<IpAddress> taken;
    std::vector<int> left;
    left.reserve(data_.unallocated.size());
    for (int ordinal : data_.unallocated) {
        IpAddress address = address_of(static_cast<size_t>(ordinal));
        if (taken.size() >= count || is_reserved(address, reservations)) {
            left.push_back(ordinal);
            continue;
        }
        auto at = static_cast<size_t>(ordinal);
        data_.allocations[at] = static_cast<int>(attribute_index(owner));
        data_.sequence_number_for_allocation[ordinal] = data_.sequence_number;
        taken.push_back(address);
    }
    data_.unallocated = std::move(left);
    return taken;
}

Result<void> Block::assign(const IpAddress& address, const Owner& owner) {
    auto ordinal = ordinal_of(data_, address);
    if (!ordinal) {
        return fail(ErrorKind::Bug,
                    fmt::format("{} is not in block {}", address.text(), data_.cidr.text()));
    }
    if (data_.allocations[*ordinal]) {
        return fail(ErrorKind::AlreadyExists, fmt::format("{} is already assigned in block {}",
                                                          address.text(), data_.cidr.text()));
    }
    data_.allocations[*ordinal] = static_cast<int>(attribute_index(owner));
    data_.sequence_number_for_allocation[static_cast<int>(*ordinal)] = data_.sequence_number;
    std::erase(data_.unallocated, static_cast<int>(*ordinal));
    return {};
}

Result<ReleaseOutcome> Block::release(std::span<const Release> requests, Time now,
                                      std::chrono::seconds cooldown) {
    ReleaseOutcome outcome;
    std::vector<size_t> ordinals;
    (void)collect(now, cooldown); // what cooled down before is used again before these
    for (const Release& request : requests) {
        auto ordinal = ordinal_of(data_, request.address);
        if (!ordinal) {
            return fail(ErrorKind::Bug, fmt::format("{} is not in block {}", request.address.text(),
                                                    data_.cidr.text()));
        }
        const auto* attribute = attribute_of(*ordinal);
        if (attribute == nullptr || !attribute->released_at.empty()) {
            outcome.unallocated.push_back(request.address);
            continue;
        }
        if (request.handle &&
            clean_handle(attribute->handle_id.value_or("")) != clean_handle(*request.handle)) {
            return fail(ErrorKind::ConfigReality,
                        fmt::format("{} is allocated to handle \"{}\", not to \"{}\"",
                                    request.address.text(), attribute->handle_id.value_or(""),
                                    *request.handle));
        }
        if (request.sequence_number) {
            auto at = data_.sequence_number_for_allocation.find(static_cast<int>(*ordinal));
            if (at != data_.sequence_number_for_allocation.end() &&
                at->second != *request.sequence_number) {
                return fail(ErrorKind::ConfigReality,
                            fmt::format("{} was allocated anew (sequence number {}, expected {})",
                                        request.address.text(), at->second,
                                        *request.sequence_number));
            }
        }
        if (std::find(ordinals.begin(), ordinals.end(), *ordinal) == ordinals.end()) {
            ordinals.push_back(*ordinal);
        }
    }
    for (size_t ordinal : ordinals) {
        data_.sequence_number_for_allocation[static_cast<int>(ordinal)] = data_.sequence_number;
    }
    release_ordinals(ordinals, now, cooldown, outcome);
    return outcome;
}

ReleaseOutcome Block::release_handle(std::string_view handle, Time now,
                                     std::chrono::seconds cooldown) {
    ReleaseOutcome outcome;
    std::vector<size_t> ordinals;
    (void)collect(now, cooldown);
    for (size_t i = 0; i < data_.allocations.size(); i++) {
        const auto* attribute = attribute_of(i);
        if (attribute != nullptr && attribute->released_at.empty() && attribute->handle_id &&
            clean_handle(*attribute->handle_id) == clean_handle(handle)) {
            ordinals.push_back(i);
        }
    }
    release_ordinals(ordinals, now, cooldown, outcome);
    return outcome;
}

void Block::release_ordinals(std::span<const size_t> ordinals, Time now,
                             std::chrono::seconds cooldown, ReleaseOutcome& outcome) {
    if (ordinals.empty()) {
        return;
    }
    auto cooling = static_cast<int>(data_.attributes.size());
    for (size_t ordinal : ordinals) {
        const auto* attribute = attribute_of(ordinal);
        if (attribute->handle_id) {
            outcome.handles[std::string(clean_handle(*attribute->handle_id))]++;
        }
        outcome.released.push_back(address_of(ordinal));
        data_.allocations[ordinal] = cooling;
    }
    api::AllocationAttribute released;
    released.released_at = rfc3339(now);
    data_.attributes.push_back(std::move(released));
    (void)collect(now, cooldown); // the count is of no interest here
}

unsigned Block::collect(Time now, std::chrono::seconds cooldown) {
    unsigned freed = 0;
    for (size_t i = 0; i < data_.allocations.size(); i++) {
        const auto* attribute = attribute_of(i);
        if (attribute == nullptr || attribute->released_at.empty()) {
            continue;
        }
        auto released = parse_rfc3339(attribute->released_at);
        // What cannot be read would else never be freed, nor would what a clock far ahead of ours
        // has written: no cool-down is longer than kMaxCooldown.
        if (released && *released + cooldown > now && *released <= now + kMaxCooldown) {
            continue;
        }
        data_.allocations[i].reset();
        data_.unallocated.push_back(static_cast<int>(i));
        data_.sequence_number_for_allocation.erase(static_cast<int>(i));
        freed++;
    }
    drop_unused_attributes();
    return freed;
}

void Block::drop_unused_attributes() {
    std::vector<std::optional<int>> moved(data_.attributes.size());
    std::vector<api::AllocationAttribute> kept;
    std::vector<bool> used(data_.attributes.size());
    for (const auto& index : data_.allocations) {
        if (index) {
            used[static_cast<size_t>(*index)] = true;
        }
    }
    if (std::find(used.begin(), used.end(), false) == used.end()) {
        return;
    }
    for (size_t i = 0; i < used.size(); i++) {
        if (used[i]) {
            moved[i] = static_cast<int>(kept.size());
            kept.push_back(std::move(data_.attributes[i]));
        }
    }
    for (auto& index : data_.allocations) {
        if (index) {
            index = moved[static_cast<size_t>(*index)];
        }
    }
    data_.attributes = std::move(kept);
}

bool Block::empty() const {
    for (size_t i = 0; i < data_.allocations.size(); i++) {
        const auto* attribute = attribute_of(i);
        if (attribute != nullptr && !is_windows_reserve(*attribute)) {
            return false;
        }
    }
    return true;
}

unsigned Block::free_count(std::span<const Cidr> reservations) const {
    if (reservations.empty()) {
        return static_cast<unsigned>(data_.unallocated.size());
    }
    return static_cast<unsigned>(
        std::count_if(data_.unallocated.begin(), data_.unallocated.end(), [&](int ordinal) {
            return !is_reserved(address_of(static_cast<size_t>(ordinal)), reservations);
        }));
}

bool Block::cooling() const {
    return std::any_of(data_.attributes.begin(), data_.attributes.end(),
                       [](const auto& attribute) { return !attribute.released_at.empty(); });
}

bool Block::cooling(const IpAddress& address) const {
    auto ordinal = ordinal_of(data_, address);
    const auto* attribute = ordinal ? attribute_of(*ordinal) : nullptr;
    return attribute != nullptr && !attribute->released_at.empty();
}

std::vector<IpAddress> Block::addresses_of(std::string_view handle) const {
    std::vector<IpAddress> addresses;
    for (const Allocation& allocation : allocations()) {
        const auto& stored = allocation.attribute->handle_id;
        if (stored && clean_handle(*stored) == clean_handle(handle)) {
            addresses.push_back(allocation.address);
        }
    }
    return addresses;
}

Allocation Block::allocation_of(size_t ordinal) const {
    Allocation allocation{address_of(ordinal), attribute_of(ordinal), std::nullopt};
    auto at = data_.sequence_number_for_allocation.find(static_cast<int>(ordinal));
    if (at != data_.sequence_number_for_allocation.end()) {
        allocation.sequence_number = at->second;
    }
    return allocation;
}

std::optional<Allocation> Block::find(const IpAddress& address) const {
    auto ordinal = ordinal_of(data_, address);
    if (!ordinal) {
        return std::nullopt;
    }
    const auto* attribute = attribute_of(*ordinal);
    if (attribute == nullptr || !attribute->released_at.empty()) {
        return std::nullopt;
    }
    return allocation_of(*ordinal);
}

std::vector<Allocation> Block::allocations() const {
    std::vector<Allocation> all;
    for (size_t i = 0; i < data_.allocations.size(); i++) {
        const auto* attribute = attribute_of(i);
        if (attribute != nullptr && attribute->released_at.empty()) {
            all.push_back(allocation_of(i));
        }
    }
    return all;
}

std::map<std::string, unsigned> Block::handles() const {
    std::map<std::string, unsigned> counts;
    for (const Allocation& allocation : allocations()) {
        if (allocation.attribute->handle_id) {
            counts[std::string(clean_handle(*allocation.attribute->handle_id))]++;
        }
    }
    return counts;
}

} // namespace manx::ipam
