// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/class_table.h"

#include "maps/abi/policy.h"

#include <algorithm>

namespace manx::calc {

uint32_t StableIds::take(uint64_t hash) {
    auto id = static_cast<uint32_t>(hash >> 32);
    while (id < first_ || id == MANX_CLASS_ANY || used_.contains(id)) {
        ++id;
    }
    used_[id] = true;
    return id;
}

ClassTable::ClassTable() : ids_(1) {
    entries_.emplace_back();
    entries_.front().users = 1;
}

ClassRef ClassTable::acquire(std::vector<Atom> sorted, std::span<const uint64_t> hashes) {
    if (sorted.empty()) {
        ++entries_.front().users;
        return 0;
    }
    uint64_t hash = 0;
    for (const Atom atom : sorted) {
        hash += scramble(hashes[matcher_of(atom)] ^ scramble(value_of(atom) + 1));
    }
    hash = scramble(hash);
    const auto [begin, end] = by_hash_.equal_range(hash);
    for (auto at = begin; at != end; ++at) {
        if (entries_[at->second].atoms == sorted) {
            ++entries_[at->second].users;
            return at->second;
        }
    }
    ClassRef ref = 0;
    if (free_.empty()) {
        ref = static_cast<ClassRef>(entries_.size());
        entries_.emplace_back();
    } else {
        ref = free_.back();
        free_.pop_back();
    }
    Entry& entry = entries_[ref];
    entry.atoms = std::move(sorted);
    entry.atoms.shrink_to_fit();
    entry.hash = hash;
    entry.number = ids_.take(hash);
    entry.users = 1;
    by_hash_.emplace(hash, ref);
    MatcherId previous = UINT32_MAX;
    for (const Atom atom : entry.atoms) {
        const MatcherId matcher = matcher_of(atom);
        if (matcher == previous) {
            continue;
        }
        previous = matcher;
        if (postings_.size() <= matcher) {
            postings_.resize(matcher + 1);
        }
        auto& posting = postings_[matcher];
        if (posting.size() == posting.capacity()) { // before it grows: drop what is gone
            // (not what is only unused: it may come back before it is collected)
            std::erase_if(posting, [&](ClassRef one) { return !has(one, matcher); });
            std::ranges::sort(posting);
            posting.erase(std::ranges::unique(posting).begin(), posting.end());
        }
        posting.push_back(ref);
    }
    return ref;
}

void ClassTable::retain(ClassRef ref) {
    ++entries_[ref].users;
}

void ClassTable::release(ClassRef ref) {
    if (--entries_[ref].users == 0) {
        unused_.push_back(ref);
    }
}

std::vector<ClassRef> ClassTable::with(MatcherId matcher) const {
    std::vector<ClassRef> out;
    if (matcher < postings_.size()) {
        for (const ClassRef ref : postings_[matcher]) {
            if (entries_[ref].users > 0 && has(ref, matcher)) {
                out.push_back(ref);
            }
        }
    }
    std::ranges::sort(out);
    out.erase(std::ranges::unique(out).begin(), out.end());
    return out;
}

bool ClassTable::has(ClassRef ref, MatcherId matcher) const {
    const auto& atoms = entries_[ref].atoms;
    const auto found = std::ranges::lower_bound(atoms, make_atom(matcher));
    return found != atoms.end() && matcher_of(*found) == matcher;
}

void ClassTable::collect() {
    for (const ClassRef ref : unused_) {
        Entry& entry = entries_[ref];
        if (ref == 0 || entry.users > 0 || entry.atoms.empty()) {
            continue; // in use again, or seen twice
        }
        const auto [begin, end] = by_hash_.equal_range(entry.hash);
        by_hash_.erase(
            std::find_if(begin, end, [&](const auto& one) { return one.second == ref; }));
        ids_.give_back(entry.number);
        entry = Entry{};
        free_.push_back(ref);
    }
    unused_.clear();
}

} // namespace manx::calc
