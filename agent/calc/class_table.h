// SPDX-License-Identifier: Apache-2.0
// Classes: sets of atoms, stored once. An atom is what a rule can ask about an address: a matcher
// (a selector, a list of nets, a service, a named port) and, for ports, a value. Numbers that go to
// the tables come from the content, so that they are the same after a restart.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace manx::calc {

using MatcherId = uint32_t;

// matcher << 32 | value; the value is 0 but for ports: protocol << 16 | port.
using Atom = uint64_t;

constexpr Atom make_atom(MatcherId matcher, uint32_t value = 0) {
    return uint64_t{matcher} << 32 | value;
}

constexpr MatcherId matcher_of(Atom atom) {
    return static_cast<MatcherId>(atom >> 32);
}

constexpr uint32_t value_of(Atom atom) {
    return static_cast<uint32_t>(atom);
}

constexpr uint64_t scramble(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    h ^= h >> 33;
    return h;
}

// Gives each content a number that depends on the content alone, but where two collide.
class StableIds {
public:
    explicit StableIds(uint32_t first) : first_(first) {}

    uint32_t take(uint64_t hash);

    void give_back(uint32_t id) { used_.erase(id); }

private:
    uint32_t first_;
    std::unordered_map<uint32_t, bool> used_;
};

// A class by its place in the table; 0 is the class without atoms.
using ClassRef = uint32_t;

class ClassTable {
public:
    ClassTable();

    // hashes: of the matchers, by id; they name the content across restarts. Counted.
    ClassRef acquire(std::vector<Atom> sorted, std::span<const uint64_t> hashes);
    void retain(ClassRef ref);
    // Freed only by collect(), so that a number is not used anew within one update.
    void release(ClassRef ref);

    // Use as the class of an address; the first one makes the class known to policy sets.
    bool publish(ClassRef ref) {
        const bool first = entries_[ref].addresses++ == 0;
        published_ += first && ref != 0 ? 1 : 0;
        return first;
    }

    // True where it was the last.
    bool withdraw(ClassRef ref) {
        const bool last = --entries_[ref].addresses == 0;
        published_ -= last && ref != 0 ? 1 : 0;
        return last;
    }

    [[nodiscard]] bool published(ClassRef ref) const { return entries_[ref].addresses > 0; }

    // Of those with atoms.
    [[nodiscard]] size_t published_count() const { return published_; }

    template <typename Fn>
    void each_published(Fn fn) const {
        for (ClassRef ref = 1; ref < entries_.size(); ++ref) {
            if (entries_[ref].addresses > 0) {
                fn(ref);
            }
        }
    }

    [[nodiscard]] const std::vector<Atom>& atoms(ClassRef ref) const { return entries_[ref].atoms; }

    [[nodiscard]] uint32_t number(ClassRef ref) const { return entries_[ref].number; }

    // Classes (once each) that have an atom of this matcher.
    [[nodiscard]] std::vector<ClassRef> with(MatcherId matcher) const;
    [[nodiscard]] bool has(ClassRef ref, MatcherId matcher) const;

    void collect();

    [[nodiscard]] size_t size() const { return entries_.size() - free_.size(); }

private:
    struct Entry {
        std::vector<Atom> atoms;
        uint64_t hash = 0;
        uint32_t number = 0;
        uint32_t users = 0;
        uint32_t addresses = 0;
    };

    std::vector<Entry> entries_;
    std::vector<ClassRef> free_;
    std::vector<ClassRef> unused_;
    std::unordered_multimap<uint64_t, ClassRef> by_hash_;
    std::vector<std::vector<ClassRef>> postings_; // by matcher; may hold what is gone
    StableIds ids_;
    size_t published_ = 0;
};

} // namespace manx::calc
