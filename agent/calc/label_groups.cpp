// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/label_groups.h"

#include <algorithm>

namespace manx::calc {

namespace {

uint64_t pair_key(StringId key, StringId value) {
    return uint64_t{key} << 32 | value;
}

uint64_t mix(uint64_t h, uint64_t value) {
    h ^= value + 0x9e3779b97f4a7c15ULL + (h << 6) + (h >> 2);
    return h * 0xff51afd7ed558ccdULL;
}

const StringId* find_in(const LabelPairs& pairs, StringId key) {
    const auto found = std::ranges::lower_bound(pairs, key, {}, &LabelPairs::value_type::first);
    return found != pairs.end() && found->first == key ? &found->second : nullptr;
}

template <typename T>
void drop(std::vector<T>& values, const T& value) {
    const auto found = std::ranges::find(values, value);
    if (found != values.end()) {
        *found = values.back();
        values.pop_back();
    }
}

} // namespace

class LabelGroups::View final : public api::LabelSource {
public:
    View(const LabelGroups& groups, const Group& group) : groups_(groups), group_(group) {}

    [[nodiscard]] std::optional<std::string_view> label(std::string_view key) const override {
        const auto id = groups_.strings_.find(key);
        if (!id) {
            return std::nullopt;
        }
        for (const LabelPairs* pairs : {&group_.labels, groups_.inherited_from_namespace(group_),
                                        groups_.inherited_from_account(group_)}) {
            if (const StringId* value = pairs == nullptr ? nullptr : find_in(*pairs, *id)) {
                return groups_.strings_.text(*value);
            }
        }
        return std::nullopt;
    }

private:
    const LabelGroups& groups_;
    const Group& group_;
};

LabelPairs LabelGroups::intern(const api::LabelMap& labels) {
    LabelPairs out;
    out.reserve(labels.size());
    for (const auto& [key, value] : labels) {
        out.emplace_back(strings_.acquire(key), strings_.acquire(value));
    }
    std::ranges::sort(out);
    return out;
}

void LabelGroups::forget(const LabelPairs& labels) {
    for (const auto& [key, value] : labels) {
        strings_.release(key);
        strings_.release(value);
    }
}

GroupId LabelGroups::acquire(const GroupFacts& facts, bool& made) {
    Group group;
    group.labels = intern(facts.labels);
    group.ns = strings_.acquire(facts.ns);
    group.account = strings_.acquire(facts.service_account);
    for (const auto& [name, protocol, port] : facts.ports) {
        group.ports.push_back({strings_.acquire(name), protocol, port});
    }
    std::ranges::sort(group.ports);
    group.pod = facts.pod;
    group.hash = mix(mix(group.ns, group.account), facts.pod ? 1 : 0);
    for (const auto& [key, value] : group.labels) {
        group.hash = mix(group.hash, pair_key(key, value));
    }
    for (const auto& port : group.ports) {
        group.hash =
            mix(group.hash, pair_key(port.name, uint32_t{port.protocol} << 16 | port.port));
    }
    const auto [begin, end] = by_content_.equal_range(group.hash);
    for (auto at = begin; at != end; ++at) {
        Group& other = groups_[at->second];
        if (other.labels == group.labels && other.ports == group.ports && other.ns == group.ns &&
            other.account == group.account && other.pod == group.pod) {
            forget(group.labels);
            strings_.release(group.ns);
            strings_.release(group.account);
            for (const auto& port : group.ports) {
                strings_.release(port.name);
            }
            ++other.users;
            made = false;
            return at->second;
        }
    }
    group.users = 1;
    GroupId id = 0;
    if (free_.empty()) {
        id = static_cast<GroupId>(groups_.size());
        groups_.emplace_back();
    } else {
        id = free_.back();
        free_.pop_back();
    }
    groups_[id] = std::move(group);
    const Group& stored = groups_[id];
    by_content_.emplace(stored.hash, id);
    index(id, stored.labels);
    for (const auto* pairs : {inherited_from_namespace(stored), inherited_from_account(stored)}) {
        if (pairs != nullptr) {
            index(id, *pairs);
        }
    }
    made = true;
    return id;
}

bool LabelGroups::release(GroupId id) {
    Group& group = groups_[id];
    if (--group.users > 0) {
        return false;
    }
    for (const auto* pairs : {static_cast<const LabelPairs*>(&group.labels),
                              inherited_from_namespace(group), inherited_from_account(group)}) {
        if (pairs != nullptr) {
            unindex(id, *pairs);
        }
    }
    const auto [begin, end] = by_content_.equal_range(group.hash);
    by_content_.erase(std::find_if(begin, end, [&](const auto& one) { return one.second == id; }));
    forget(group.labels);
    strings_.release(group.ns);
    strings_.release(group.account);
    for (const auto& port : group.ports) {
        strings_.release(port.name);
    }
    group = Group{};
    free_.push_back(id);
    return true;
}

const LabelPairs* LabelGroups::inherited_from_namespace(const Group& group) const {
    const auto found = namespaces_.find(group.ns);
    return found == namespaces_.end() ? nullptr : &found->second;
}

const LabelPairs* LabelGroups::inherited_from_account(const Group& group) const {
    const auto found = accounts_.find({group.ns, group.account});
    return found == accounts_.end() ? nullptr : &found->second;
}

void LabelGroups::index(GroupId id, const LabelPairs& labels) {
    for (const auto& [key, value] : labels) {
        by_label_[pair_key(key, value)].push_back(id);
    }
}

void LabelGroups::unindex(GroupId id, const LabelPairs& labels) {
    for (const auto& [key, value] : labels) {
        const auto found = by_label_.find(pair_key(key, value));
        found->second.drop(id);
        if (found->second.empty()) {
            by_label_.erase(found);
        }
    }
}

std::vector<GroupId> LabelGroups::set_namespace(const std::string& ns,
                                                const api::LabelMap* labels) {
    const StringId id = strings_.acquire(ns);
    const LabelPairs fresh = labels == nullptr ? LabelPairs{} : intern(*labels);
    const auto found = namespaces_.find(id);
    const bool existed = found != namespaces_.end();
    const LabelPairs old = existed ? found->second : LabelPairs{};
    std::vector<GroupId> touched;
    if (old != fresh) {
        for (GroupId group = 0; group < groups_.size(); ++group) {
            if (groups_[group].users > 0 && groups_[group].ns == id) {
                unindex(group, old);
                index(group, fresh);
                touched.push_back(group);
            }
        }
    }
    forget(old);
    // The map holds one reference to the name while it has an entry.
    if (labels == nullptr) {
        namespaces_.erase(id);
        strings_.release(id);
        if (existed) {
            strings_.release(id);
        }
    } else {
        namespaces_[id] = fresh;
        if (existed) {
            strings_.release(id);
        }
    }
    return touched;
}

std::vector<GroupId> LabelGroups::set_service_account(const std::string& ns,
                                                      const std::string& name,
                                                      const api::LabelMap* labels) {
    const AccountKey id{strings_.acquire(ns), strings_.acquire(name)};
    const LabelPairs fresh = labels == nullptr ? LabelPairs{} : intern(*labels);
    const auto found = accounts_.find(id);
    const bool existed = found != accounts_.end();
    const LabelPairs old = existed ? found->second : LabelPairs{};
    std::vector<GroupId> touched;
    if (old != fresh) {
        for (GroupId group = 0; group < groups_.size(); ++group) {
            if (groups_[group].users > 0 && groups_[group].ns == id.first &&
                groups_[group].account == id.second) {
                unindex(group, old);
                index(group, fresh);
                touched.push_back(group);
            }
        }
    }
    forget(old);
    const auto release = [&] {
        strings_.release(id.first);
        strings_.release(id.second);
    };
    if (labels == nullptr) {
        accounts_.erase(id);
        release();
        if (existed) {
            release();
        }
    } else {
        accounts_[id] = fresh;
        if (existed) {
            release();
        }
    }
    return touched;
}

bool LabelGroups::matches(GroupId id, const api::Selector& selector) const {
    return selector.matches(View(*this, groups_[id]));
}

void LabelGroups::candidates(const api::Selector& selector,
                             const std::function<void(GroupId)>& fn) const {
    const auto required = selector.required();
    const bool indexed = required && std::ranges::all_of(*required, [](const auto& one) {
                             return one.value.has_value();
                         });
    if (!indexed) {
        for (GroupId id = 0; id < groups_.size(); ++id) {
            if (groups_[id].users > 0) {
                fn(id);
            }
        }
        return;
    }
    std::vector<GroupId> found;
    for (const auto& one : *required) {
        const auto key = strings_.find(one.key);
        const auto value = strings_.find(*one.value);
        const auto at = key && value ? by_label_.find(pair_key(*key, *value)) : by_label_.end();
        if (at != by_label_.end()) {
            found.insert(found.end(), at->second.begin(), at->second.end());
        }
    }
    std::ranges::sort(found);
    found.erase(std::ranges::unique(found).begin(), found.end());
    for (const GroupId id : found) {
        fn(id);
    }
}

void LabelGroups::each_label(GroupId id, const std::function<void(StringId, StringId)>& fn) const {
    const Group& group = groups_[id];
    for (const auto* pairs : {static_cast<const LabelPairs*>(&group.labels),
                              inherited_from_namespace(group), inherited_from_account(group)}) {
        if (pairs != nullptr) {
            for (const auto& [key, value] : *pairs) {
                fn(key, value);
            }
        }
    }
}

void SelectorIndex::add(uint32_t value, const api::Selector& selector) {
    const auto required = selector.required();
    if (!required) {
        anything_.push_back(value);
        return;
    }
    for (const auto& one : *required) {
        const StringId key = strings_.acquire(one.key);
        if (one.value) {
            pairs_[pair_key(key, strings_.acquire(*one.value))].push_back(value);
        } else {
            keys_[key].push_back(value);
        }
    }
}

void SelectorIndex::remove(uint32_t value, const api::Selector& selector) {
    const auto required = selector.required();
    if (!required) {
        drop(anything_, value);
        return;
    }
    for (const auto& one : *required) {
        const StringId key = *strings_.find(one.key);
        if (one.value) {
            const StringId label = *strings_.find(*one.value);
            const auto found = pairs_.find(pair_key(key, label));
            drop(found->second, value);
            if (found->second.empty()) {
                pairs_.erase(found);
            }
            strings_.release(label);
        } else {
            const auto found = keys_.find(key);
            drop(found->second, value);
            if (found->second.empty()) {
                keys_.erase(found);
            }
        }
        strings_.release(key);
    }
}

void SelectorIndex::by_label(StringId key, StringId value,
                             const std::function<void(uint32_t)>& fn) const {
    if (const auto found = pairs_.find(pair_key(key, value)); found != pairs_.end()) {
        std::ranges::for_each(found->second, fn);
    }
    if (const auto found = keys_.find(key); found != keys_.end()) {
        std::ranges::for_each(found->second, fn);
    }
}

void SelectorIndex::by_nothing(const std::function<void(uint32_t)>& fn) const {
    std::ranges::for_each(anything_, fn);
}

} // namespace manx::calc
