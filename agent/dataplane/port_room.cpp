// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/port_room.h"

#include <algorithm>

namespace manx::dataplane {

void PortRoom::reset() {
    free_.clear();
    free_.emplace(0, capacity_);
    std::erase_if(waiting_,
                  [this](const auto& one) { return !take_at(one.second.offset, one.second.size); });
}

std::optional<uint32_t> PortRoom::take(uint32_t size) {
    const auto at =
        std::ranges::find_if(free_, [size](const auto& range) { return range.second >= size; });
    if (at == free_.end()) {
        return std::nullopt;
    }
    const uint32_t offset = at->first;
    (void)take_at(offset, size);
    return offset;
}

bool PortRoom::take_at(uint32_t offset, uint32_t size) {
    auto at = free_.upper_bound(offset);
    if (at == free_.begin()) {
        return false;
    }
    --at;
    const auto [start, length] = *at;
    if (start + length < offset + size) {
        return false;
    }
    free_.erase(at);
    if (start < offset) {
        free_.emplace(start, offset - start);
    }
    if (start + length > offset + size) {
        free_.emplace(offset + size, start + length - offset - size);
    }
    return true;
}

void PortRoom::give(uint32_t offset, uint32_t size) {
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + size) {
        size += next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second == offset) {
            previous->second += size;
            return;
        }
    }
    free_.emplace(offset, size);
}

void PortRoom::give_later(uint32_t offset, uint32_t size, Time since) {
    waiting_.emplace(since, Range{offset, size});
}

void PortRoom::reuse(Time until) {
    const auto end = waiting_.upper_bound(until);
    for (auto at = waiting_.begin(); at != end; ++at) {
        give(at->second.offset, at->second.size);
    }
    waiting_.erase(waiting_.begin(), end);
}

uint32_t PortRoom::used() const {
    uint32_t room = 0;
    for (const auto& [offset, size] : free_) {
        room += size;
    }
    return capacity_ - room;
}

} // namespace manx::dataplane
