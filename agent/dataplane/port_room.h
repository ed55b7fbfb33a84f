// SPDX-License-Identifier: Apache-2.0
// Which entries of manx_ports are free. What is given back is used again only after a grace period,
// since a program may still be reading it.
//
// Threading: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

namespace manx::dataplane {

class PortRoom {
public:
    using Time = std::chrono::steady_clock::time_point;

    explicit PortRoom(uint32_t capacity) : capacity_(capacity) { free_.emplace(0, capacity); }

    // Everything is free but what waits.
    void reset();
    // The first that is large enough.
    std::optional<uint32_t> take(uint32_t size);
    // False: part of it is taken already.
    bool take_at(uint32_t offset, uint32_t size);
    // At once: no program can be reading it.
    void give(uint32_t offset, uint32_t size);

    // It was named until `since`.
    void give_later(uint32_t offset, uint32_t size, Time since);

    // Uses again what has waited since `until` or longer.
    void reuse(Time until);

    [[nodiscard]] const std::map<uint32_t, uint32_t>& free_ranges() const { return free_; }

    // fn(offset, size)
    template <typename Fn>
    void each_waiting(Fn fn) const {
        for (const auto& [since, range] : waiting_) {
            fn(range.offset, range.size);
        }
    }

    [[nodiscard]] bool waiting() const { return !waiting_.empty(); }

    [[nodiscard]] uint32_t capacity() const { return capacity_; }

    [[nodiscard]] uint32_t used() const; // or waiting

private:
    struct Range {
        uint32_t offset = 0;
        uint32_t size = 0;
    };

    uint32_t capacity_;
    std::map<uint32_t, uint32_t> free_; // offset -> size
    std::multimap<Time, Range> waiting_;
};

} // namespace manx::dataplane
