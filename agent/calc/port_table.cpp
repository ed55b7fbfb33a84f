// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/port_table.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

namespace manx::calc {

namespace {

uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    return h;
}

struct Decision {
    uint8_t action = MANX_ACTION_ALLOW;
    uint8_t flags = 0;
    uint32_t rule = 0;

    bool operator==(const Decision&) const = default;
};

struct Segment {
    uint32_t last = 0;
    Decision decision;
};

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

bool matches_source(const RuleStep& step, std::optional<uint32_t> source) {
    if (step.source_ports.empty()) {
        return true;
    }
    return source && std::ranges::any_of(step.source_ports, [&](const Range& range) {
               return range.first <= *source && *source <= range.last;
           });
}

// First match for one source port (or for those that no rule names).
std::vector<Segment> resolve(std::span<const RuleStep> steps, std::optional<uint32_t> source) {
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
    for (const auto& step : steps) {
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
        if (active.empty() || !matches_source(step, source)) {
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

manx_port entry(uint32_t last, const Decision& decision) {
    manx_port out{};
    out.last = last;
    out.rule = decision.rule;
    out.action = decision.action;
    out.flags = decision.flags;
    return out;
}

// Where the sets of rules that match by source port change: first ports of elementary intervals.
std::vector<uint32_t> source_bounds(std::span<const RuleStep> steps) {
    std::vector<uint32_t> bounds{0};
    for (const auto& step : steps) {
        for (const auto& range : step.source_ports) {
            bounds.push_back(range.first);
            bounds.push_back(range.last + 1);
            // Intervals do not cross protocols.
            bounds.push_back(range.first & 0xffff0000U);
            bounds.push_back((range.last | 0xffffU) + 1);
        }
    }
    std::ranges::sort(bounds);
    bounds.erase(std::ranges::unique(bounds).begin(), bounds.end());
    return bounds;
}

const Segment& segment_at(const std::vector<Segment>& segments, uint32_t value) {
    return *std::ranges::lower_bound(segments, value, {}, &Segment::last);
}

void compile_by_source(std::span<const RuleStep> steps, PortTable& out) {
    const auto bounds = source_bounds(steps);
    std::vector<std::vector<Segment>> tables;
    tables.reserve(bounds.size());
    for (const uint32_t bound : bounds) {
        tables.push_back(resolve(steps, bound));
    }
    // Destination ranges in which no table changes, cut at protocols that have source intervals.
    std::vector<uint32_t> ends;
    for (const auto& table : tables) {
        for (const auto& segment : table) {
            ends.push_back(segment.last);
        }
    }
    for (const uint32_t bound : bounds) {
        const uint32_t protocol = bound & 0xffff0000U;
        ends.push_back(protocol | 0xffffU);
        if (protocol != 0) {
            ends.push_back(protocol - 1);
        }
    }
    std::ranges::sort(ends);
    ends.erase(std::ranges::unique(ends).begin(), ends.end());

    std::vector<std::vector<manx_port>> runs; // by source port, one per main entry that has one
    std::vector<manx_port> main;
    std::vector<size_t> run_of;
    for (const uint32_t last : ends) {
        const uint32_t protocol = last & 0xffff0000U;
        std::vector<manx_port> run;
        std::optional<Decision> previous;
        for (size_t i = 0; i < bounds.size(); ++i) {
            const uint32_t bound_last =
                i + 1 < bounds.size() ? bounds[i + 1] - 1 : uint32_t{0xffffffffU};
            if (bound_last < protocol || bounds[i] > (protocol | 0xffffU)) {
                continue;
            }
            const Decision decision = segment_at(tables[i], last).decision;
            if (previous == decision) {
                run.back().last = bound_last;
            } else {
                run.push_back(entry(bound_last, decision));
            }
            previous = decision;
        }
        run.back().last = 0xffffffffU;
        if (run.size() == 1) {
            manx_port plain = run.front();
            plain.last = last;
            if (!main.empty() && run_of.back() == SIZE_MAX && main.back().action == plain.action &&
                main.back().rule == plain.rule && main.back().flags == plain.flags) {
                main.back().last = last;
                continue;
            }
            main.push_back(plain);
            run_of.push_back(SIZE_MAX);
            continue;
        }
        manx_port by_source{};
        by_source.last = last;
        by_source.action = MANX_ACTION_BY_SOURCE_PORT;
        by_source.next_count = static_cast<__u16>(run.size());
        main.push_back(by_source);
        run_of.push_back(runs.size());
        runs.push_back(std::move(run));
    }
    out.count = static_cast<uint32_t>(main.size());
    out.entries = std::move(main);
    for (size_t i = 0; i < out.count; ++i) {
        if (run_of[i] != SIZE_MAX) {
            out.entries[i].next = static_cast<__u32>(out.entries.size());
            const auto& run = runs[run_of[i]];
            out.entries.insert(out.entries.end(), run.begin(), run.end());
        }
    }
}

bool same_entry(const manx_port& a, const manx_port& b) {
    return a.last == b.last && a.rule == b.rule && a.next == b.next &&
           a.next_count == b.next_count && a.action == b.action && a.flags == b.flags;
}

} // namespace

bool PortTable::operator==(const PortTable& other) const {
    return count == other.count && std::ranges::equal(entries, other.entries, same_entry);
}

PortTable compile_port_table(std::span<const RuleStep> steps) {
    PortTable out;
    if (std::ranges::all_of(steps,
                            [](const RuleStep& step) { return step.source_ports.empty(); })) {
        for (const auto& segment : resolve(steps, std::nullopt)) {
            out.entries.push_back(entry(segment.last, segment.decision));
        }
        out.count = static_cast<uint32_t>(out.entries.size());
    } else {
        compile_by_source(steps, out);
    }
    out.entries.shrink_to_fit();
    out.hash = out.count;
    for (const auto& one : out.entries) {
        out.hash = mix(out.hash ^ (uint64_t{one.last} << 32 | one.rule));
        out.hash = mix(out.hash ^ (uint64_t{one.next} << 32 | uint64_t{one.next_count} << 16 |
                                   uint64_t{one.action} << 8 | one.flags));
    }
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
