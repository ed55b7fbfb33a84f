// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/address_table.h"

#include <algorithm>

namespace manx::calc {

SourceId AddressTable::add_source(ClassRef atoms, uint32_t flags) {
    SourceId id = 0;
    if (free_.empty()) {
        id = static_cast<SourceId>(sources_.size());
        sources_.emplace_back();
    } else {
        id = free_.back();
        free_.pop_back();
    }
    classes_.retain(atoms);
    sources_[id] = {atoms, flags, true};
    return id;
}

void AddressTable::remove_source(SourceId id) {
    classes_.release(sources_[id].atoms);
    sources_[id] = {};
    free_.push_back(id);
}

void AddressTable::set_atoms(SourceId id, ClassRef atoms) {
    classes_.retain(atoms);
    classes_.release(sources_[id].atoms);
    sources_[id].atoms = atoms;
}

AddressTable::Node* AddressTable::find_parent(Prefixes::iterator at) {
    if (at == prefixes_.begin()) {
        return nullptr;
    }
    Node* candidate = &*std::prev(at);
    while (candidate != nullptr && !candidate->first.contains(at->first)) {
        candidate = candidate->second.parent;
    }
    return candidate;
}

// Of the entries inside at: those whose parent is `from` get `to`.
void AddressTable::move_children(Prefixes::iterator at, Node* from, Node* to) {
    if (at->first.is_host()) {
        return;
    }
    for (auto inner = std::next(at); inner != prefixes_.end() && at->first.contains(inner->first);
         ++inner) {
        if (inner->second.parent == from) {
            inner->second.parent = to;
        }
    }
}

void AddressTable::touch_children(Prefixes::iterator at) {
    if (at->first.is_host()) {
        return;
    }
    for (auto inner = std::next(at); inner != prefixes_.end() && at->first.contains(inner->first);
         ++inner) {
        if (inner->second.parent == &*at) {
            touched_.insert(&*inner);
        }
    }
}

AddressTable::Node* AddressTable::contribute(const Cidr& prefix, SourceId source) {
    const auto [at, made] = prefixes_.try_emplace(prefix);
    if (made) {
        Node* parent = find_parent(at);
        at->second.parent = parent;
        // Until it is computed: what those inside it were computed with.
        at->second.now = parent == nullptr ? AddressClass{} : parent->second.now;
        classes_.retain(at->second.now.ref);
        move_children(at, at->second.parent, &*at);
    }
    at->second.sources.push_back(source);
    touched_.insert(&*at);
    return &*at;
}

void AddressTable::withdraw(Node* node, SourceId source) {
    if (node->second.sources.drop(source)) {
        touched_.insert(node);
    }
}

void AddressTable::withdraw(const Cidr& prefix, SourceId source) {
    if (const auto at = prefixes_.find(prefix); at != prefixes_.end()) {
        withdraw(&*at, source);
    }
}

void AddressTable::touch(const Cidr& prefix) {
    if (const auto at = prefixes_.find(prefix); at != prefixes_.end()) {
        touched_.insert(&*at);
    }
}

AddressClass AddressTable::compute(const Node& node, std::span<const uint64_t> matcher_hashes) {
    AddressClass out;
    ClassRef first = 0;
    bool several = false;
    const auto add = [&](ClassRef atoms, uint32_t flags) {
        out.flags |= flags;
        if (atoms == 0 || atoms == first) {
            return;
        }
        several |= first != 0;
        first = first == 0 ? atoms : first;
    };
    for (const SourceId source : node.second.sources) {
        add(sources_[source].atoms, sources_[source].flags);
    }
    if (node.second.parent != nullptr) {
        const AddressClass& around = node.second.parent->second.now;
        add(around.ref, around.flags);
    }
    if (!several) {
        out.ref = first;
        classes_.retain(first);
        return out;
    }
    std::vector<Atom> atoms;
    const auto append = [&](ClassRef ref) {
        const auto& more = classes_.atoms(ref);
        atoms.insert(atoms.end(), more.begin(), more.end());
    };
    for (const SourceId source : node.second.sources) {
        append(sources_[source].atoms);
    }
    if (node.second.parent != nullptr) {
        append(node.second.parent->second.now.ref);
    }
    std::ranges::sort(atoms);
    atoms.erase(std::ranges::unique(atoms).begin(), atoms.end());
    out.ref = classes_.acquire(std::move(atoms), matcher_hashes);
    return out;
}

std::vector<AddressTable::Change> AddressTable::resolve(std::span<const uint64_t> matcher_hashes) {
    std::vector<Change> changes;
    changes.reserve(touched_.size());
    while (!touched_.empty()) {
        Node* node = *touched_.begin();
        touched_.erase(touched_.begin());
        Prefix& prefix = node->second;
        if (prefix.sources.empty()) {
            const auto at = prefixes_.find(node->first);
            touch_children(at);
            move_children(at, node, prefix.parent);
            if (prefix.present) {
                changes.push_back({node->first, false, true, {}, prefix.now});
            }
            classes_.release(prefix.now.ref);
            prefixes_.erase(at);
            continue;
        }
        const AddressClass now = compute(*node, matcher_hashes);
        // What a shorter prefix says already needs no entry of its own.
        const AddressClass around =
            prefix.parent == nullptr ? AddressClass{} : prefix.parent->second.now;
        const bool present = now != around;
        if (!node->first.is_host() && now != prefix.now) {
            touch_children(prefixes_.find(node->first));
        }
        if (present ? !prefix.present || now != prefix.now : prefix.present) {
            changes.push_back({node->first, present, prefix.present, now, prefix.now});
        }
        classes_.release(prefix.now.ref);
        prefix.now = now;
        prefix.present = present;
    }
    return changes;
}

AddressClass AddressTable::lookup(const IpAddress& address) const {
    auto at = prefixes_.upper_bound(Cidr::host(address));
    if (at == prefixes_.begin()) {
        return {};
    }
    const Node* candidate = &*std::prev(at);
    while (candidate != nullptr && !candidate->first.contains(address)) {
        candidate = candidate->second.parent;
    }
    return candidate == nullptr ? AddressClass{} : candidate->second.now;
}

void AddressTable::each(const std::function<void(const Cidr&, const AddressClass&)>& fn) const {
    for (const auto& [cidr, prefix] : prefixes_) {
        if (prefix.present) {
            fn(cidr, prefix.now);
        }
    }
}

} // namespace manx::calc
