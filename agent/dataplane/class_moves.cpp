// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/class_moves.h"

#include <algorithm>
#include <cstring>

namespace manx::dataplane {

namespace {

// Calls fn(prefix, now, wanted) for each prefix of either, shorter ones first: entries of its own,
// or null; and class_now, class_wanted of the addresses that are in no longer prefix.
template <typename Fn>
void each_prefix(const Classes& now, const Classes& wanted, Fn fn) {
    struct Around {
        Cidr prefix;
        uint32_t now = 0;
        uint32_t wanted = 0;
    };

    std::vector<Around> around;
    auto left = now.begin();
    auto right = wanted.begin();
    while (left != now.end() || right != wanted.end()) {
        const bool of_left =
            right == wanted.end() || (left != now.end() && left->first <= right->first);
        const Cidr prefix = of_left ? left->first : right->first;
        const manx_class* one = of_left ? &left->second : nullptr;
        const manx_class* two =
            right != wanted.end() && right->first == prefix ? &right->second : nullptr;
        while (!around.empty() && !around.back().prefix.contains(prefix)) {
            around.pop_back();
        }
        Around here = around.empty() ? Around{} : around.back();
        here.prefix = prefix;
        here.now = one == nullptr ? here.now : one->class_id;
        here.wanted = two == nullptr ? here.wanted : two->class_id;
        fn(prefix, one, two, here.now, here.wanted);
        if (!prefix.is_host()) {
            around.push_back(here);
        }
        left = one == nullptr ? left : std::next(left);
        right = two == nullptr ? right : std::next(right);
    }
}

} // namespace

std::vector<ClassMove> class_moves(const Classes& now, const Classes& wanted) {
    std::vector<ClassMove> out;
    each_prefix(now, wanted,
                [&](const Cidr& prefix, const manx_class* one, const manx_class* two, uint32_t,
                    uint32_t class_id) {
                    if (two == nullptr) {
                        out.push_back({.prefix = prefix, .remove = true, .class_id = class_id});
                    } else if (one == nullptr || std::memcmp(one, two, sizeof(*one)) != 0) {
                        out.push_back({.prefix = prefix, .value = *two, .class_id = class_id});
                    }
                });
    std::ranges::stable_sort(out, [](const ClassMove& a, const ClassMove& b) {
        if (a.remove != b.remove) {
            return b.remove;
        }
        return a.remove ? a.prefix.length() < b.prefix.length()
                        : a.prefix.length() > b.prefix.length();
    });
    return out;
}

ClassOrigins class_origins(const Classes& now, const Classes& wanted,
                           std::span<const std::pair<uint32_t, uint32_t>> besides) {
    std::vector<std::pair<uint32_t, uint32_t>> pairs(besides.begin(), besides.end());
    pairs.emplace_back(0, 0); // addresses that nobody knows
    each_prefix(now, wanted,
                [&](const Cidr&, const manx_class*, const manx_class*, uint32_t from, uint32_t to) {
                    pairs.emplace_back(to, from);
                });
    std::ranges::sort(pairs);
    pairs.erase(std::ranges::unique(pairs).begin(), pairs.end());
    ClassOrigins out;
    for (auto at = pairs.begin(); at != pairs.end();) {
        const auto end =
            std::find_if(at, pairs.end(), [&](const auto& one) { return one.first != at->first; });
        if (end - at > 1 || at->second != at->first) {
            auto& origins = out.of[at->first];
            std::ranges::transform(at, end, std::back_inserter(origins),
                                   [](const auto& one) { return one.second; });
        }
        at = end;
    }
    for (const auto& [to, from] : pairs) {
        if (to != from) {
            out.left.insert(from);
        }
    }
    return out;
}

} // namespace manx::dataplane
