// SPDX-License-Identifier: Apache-2.0
// Objects that selectors match (workloads, host endpoints, network sets), grouped by what they
// carry: equal labels, namespace, service account and named ports. Selectors are evaluated once
// per group. Two indexes keep a change from looking at everything: groups by label, selectors by
// the label that they need.
#pragma once

#include "agent/api/selector.h"
#include "agent/calc/id_list.h"
#include "agent/calc/string_pool.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace manx::calc {

struct PortBinding {
    StringId name = 0;
    uint8_t protocol = 0;
    uint16_t port = 0;

    auto operator<=>(const PortBinding&) const = default;
};

using LabelPairs = std::vector<std::pair<StringId, StringId>>; // key, value; sorted by key

using GroupId = uint32_t;

// What a group is made from.
struct GroupFacts {
    api::LabelMap labels; // own, with the automatic ones
    std::string ns;       // empty: none
    std::string service_account;
    bool pod = false;
    std::vector<std::tuple<std::string, uint8_t, uint16_t>> ports; // name, protocol, number
};

class LabelGroups {
public:
    explicit LabelGroups(StringPool& strings) : strings_(strings) {}

    // Finds or makes the group; counted. made: it did not exist before.
    GroupId acquire(const GroupFacts& facts, bool& made);
    // True where the group is gone.
    bool release(GroupId id);

    // Labels inherited from a namespace or a service account, prefixed already. Returns the groups
    // whose labels changed.
    std::vector<GroupId> set_namespace(const std::string& ns, const api::LabelMap* labels);
    std::vector<GroupId> set_service_account(const std::string& ns, const std::string& name,
                                             const api::LabelMap* labels);

    [[nodiscard]] bool matches(GroupId id, const api::Selector& selector) const;

    [[nodiscard]] const std::vector<PortBinding>& ports(GroupId id) const {
        return groups_[id].ports;
    }

    // Calls fn for every group that may match (at most once each).
    void candidates(const api::Selector& selector, const std::function<void(GroupId)>& fn) const;
    // Own and inherited labels.
    void each_label(GroupId id, const std::function<void(StringId, StringId)>& fn) const;

    [[nodiscard]] size_t capacity() const { return groups_.size(); }

    [[nodiscard]] bool live(GroupId id) const { return groups_[id].users > 0; }

private:
    struct Group {
        LabelPairs labels;
        std::vector<PortBinding> ports;
        StringId ns = 0;
        StringId account = 0;
        uint32_t users = 0;
        bool pod = false;
        uint64_t hash = 0;
    };

    class View;

    using AccountKey = std::pair<StringId, StringId>;

    [[nodiscard]] const LabelPairs* inherited_from_namespace(const Group& group) const;
    [[nodiscard]] const LabelPairs* inherited_from_account(const Group& group) const;
    void index(GroupId id, const LabelPairs& labels);
    void unindex(GroupId id, const LabelPairs& labels);
    LabelPairs intern(const api::LabelMap& labels);
    void forget(const LabelPairs& labels);

    StringPool& strings_;
    std::deque<Group> groups_;
    std::vector<GroupId> free_;
    std::unordered_multimap<uint64_t, GroupId> by_content_;
    std::unordered_map<uint64_t, IdList> by_label_; // key << 32 | value
    std::map<StringId, LabelPairs> namespaces_;
    std::map<AccountKey, LabelPairs> accounts_;
};

// Selectors, found by the labels of an object that may match them. Values are the caller's.
class SelectorIndex {
public:
    explicit SelectorIndex(StringPool& strings) : strings_(strings) {}

    void add(uint32_t value, const api::Selector& selector);
    void remove(uint32_t value, const api::Selector& selector);
    // Values whose selector may match an object with this label; and those that may match anything.
    void by_label(StringId key, StringId value, const std::function<void(uint32_t)>& fn) const;
    void by_nothing(const std::function<void(uint32_t)>& fn) const;

private:
    StringPool& strings_;
    std::unordered_map<uint64_t, std::vector<uint32_t>> pairs_;
    std::unordered_map<StringId, std::vector<uint32_t>> keys_;
    std::vector<uint32_t> anything_;
};

} // namespace manx::calc
