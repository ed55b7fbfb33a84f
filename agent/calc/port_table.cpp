// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/port_table.h"

#include "agent/calc/port_resolve.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace manx::calc {

namespace {

uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    return h;
}

// Ranges that are not decided yet, with the flags that Log rules left on them; by first.
using Pending = std::map<uint32_t, std::pair<uint32_t, uint8_t>>;

// Takes the part of pending that overlaps range out of it and gives each piece to fn.
template <typename Fn>
void take(Pending& pending, const Range& range, Fn fn) {
    auto at = pending.upper_bound(range.first);
    if (at != pending.begin() && std::prev(at)->second.first >= range.first) {
        --at;
    }
    while (at != pending.end() && at->first <= range.last) {
        const uint32_t first = at->first;
        const auto [last, flags] = at->second;
        at = pending.erase(at);
        if (first < range.first) {
            pending.emplace(first, std::pair{range.first - 1, flags});
        }
        if (last > range.last) {
            pending.emplace(range.last + 1, std::pair{last, flags});
        }
        fn(std::max(first, range.first), std::min(last, range.last), flags);
        if (last > range.last) {
            return;
        }
    }
}

} // namespace

std::vector<Segment> resolve(std::span<const RuleStep* const> steps) {
    std::map<uint32_t, Segment> decided;
    Pending active{{0, {0xffffffffU, 0}}};
    Pending passed;
    const auto decide = [&](uint32_t first, uint32_t last, uint8_t action, uint32_t rule,
                            uint8_t flags) {
        decided.emplace(first, Segment{last, {action, flags, rule}});
    };
    const auto pass = [&](uint32_t first, uint32_t last, uint8_t flags) {
        passed.emplace(first, std::pair{last, flags});
    };
    for (const RuleStep* one : steps) {
        const RuleStep& step = *one;
        if (step.action == StepAction::TierEndDeny || step.action == StepAction::TierEndPass) {
            for (const auto& [first, rest] : active) {
                if (step.action == StepAction::TierEndPass) {
                    pass(first, rest.first, rest.second);
                } else {
                    decide(first, rest.first, MANX_ACTION_DENY, step.rule, rest.second);
                }
            }
            active = std::move(passed);
            passed.clear();
            continue;
        }
        if (active.empty()) {
            continue;
        }
        for (const auto& range : step.ranges) {
            std::vector<std::pair<Range, uint8_t>> logged;
            take(active, range, [&](uint32_t first, uint32_t last, uint8_t flags) {
                switch (step.action) {
                case StepAction::Log:
                    logged.push_back({{first, last}, MANX_PORT_LOG});
                    break;
                case StepAction::Pass:
                    pass(first, last, flags);
                    break;
                case StepAction::Allow:
                    decide(first, last, MANX_ACTION_ALLOW, step.rule, flags);
                    break;
                default:
                    decide(first, last, MANX_ACTION_DENY, step.rule, flags);
                    break;
                }
            });
            for (const auto& [piece, flags] : logged) {
                active.emplace(piece.first, std::pair{piece.last, flags});
            }
        }
    }
    for (const auto& [first, rest] : active) {
        decide(first, rest.first, MANX_ACTION_ALLOW, 0, rest.second);
    }
    std::vector<Segment> out;
    for (const auto& [first, segment] : decided) {
        if (!out.empty() && out.back().decision == segment.decision) {
            out.back().last = segment.last;
        } else {
            out.push_back(segment);
        }
    }
    return out;
}

manx_port port_entry(uint32_t last, const Decision& decision) {
    manx_port out{};
    out.last = last;
    out.rule = decision.rule;
    out.action = decision.action;
    out.flags = decision.flags;
    return out;
}

namespace {

bool same_entry(const manx_port& a, const manx_port& b) {
    return a.last == b.last && a.rule == b.rule && a.next == b.next &&
           a.next_count == b.next_count && a.action == b.action && a.flags == b.flags;
}

} // namespace

bool PortTable::operator==(const PortTable& other) const {
    return count == other.count && std::ranges::equal(entries, other.entries, same_entry);
}

uint64_t content_hash(const PortTable& table) {
    uint64_t hash = table.count;
    for (const auto& one : table.entries) {
        hash = mix(hash ^ (uint64_t{one.last} << 32 | one.rule));
        hash = mix(hash ^ (uint64_t{one.next} << 32 | uint64_t{one.next_count} << 16 |
                           uint64_t{one.action} << 8 | one.flags));
    }
    return hash;
}

PortTable compile_port_table(std::span<const RuleStep> steps) {
    PortTable out;
    const bool by_source =
        std::ranges::any_of(steps, [](const RuleStep& step) { return !step.source_ports.empty(); });
    if (by_source && !compile_by_source(steps, out)) {
        out = PortTable{};
        out.too_big = true;
    }
    if (!by_source || out.too_big) {
        std::vector<const RuleStep*> taken;
        const std::vector<RuleStep> closed =
            out.too_big ? without_source_ports(steps) : std::vector<RuleStep>{};
        for (const auto& step : out.too_big ? std::span(closed) : steps) {
            taken.push_back(&step);
        }
        for (const auto& segment : resolve(taken)) {
            out.entries.push_back(port_entry(segment.last, segment.decision));
        }
        out.count = static_cast<uint32_t>(out.entries.size());
    }
    out.entries.shrink_to_fit();
    out.hash = content_hash(out);
    return out;
}

Verdict search(const PortTable& table, uint32_t source, uint32_t destination) {
    const auto begin = table.entries.begin();
    auto found =
        std::ranges::lower_bound(begin, begin + table.count, destination, {}, &manx_port::last);
    if (found->action == MANX_ACTION_BY_SOURCE_PORT) {
        found =
            std::ranges::lower_bound(begin + found->next, begin + found->next + found->next_count,
                                     source, {}, &manx_port::last);
    }
    return {found->action == MANX_ACTION_ALLOW, found->rule, (found->flags & MANX_PORT_LOG) != 0};
}

std::vector<Range> subtract(std::span<const Range> a, std::span<const Range> b) {
    std::vector<Range> out;
    size_t j = 0;
    for (Range range : a) {
        bool gone = false;
        while (j < b.size() && b[j].last < range.first) {
            ++j;
        }
        for (size_t k = j; k < b.size() && b[k].first <= range.last; ++k) {
            if (b[k].first > range.first) {
                out.push_back({range.first, b[k].first - 1});
            }
            if (b[k].last >= range.last) {
                gone = true;
                break;
            }
            range.first = b[k].last + 1;
        }
        if (!gone) {
            out.push_back(range);
        }
    }
    return out;
}

std::vector<Range> intersect(std::span<const Range> a, std::span<const Range> b) {
    std::vector<Range> out;
    size_t i = 0;
    size_t j = 0;
    while (i < a.size() && j < b.size()) {
        const Range both{std::max(a[i].first, b[j].first), std::min(a[i].last, b[j].last)};
        if (both.first <= both.last) {
            out.push_back(both);
        }
        (a[i].last < b[j].last ? i : j)++;
    }
    return out;
}

void normalize(std::vector<Range>& ranges) {
    std::ranges::sort(ranges);
    std::vector<Range> joined;
    for (const auto& range : ranges) {
        if (!joined.empty() && range.first <= uint64_t{joined.back().last} + 1) {
            joined.back().last = std::max(joined.back().last, range.last);
        } else {
            joined.push_back(range);
        }
    }
    ranges = std::move(joined);
}

} // namespace manx::calc
