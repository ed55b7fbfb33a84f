// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/port_resolve.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <utility>

namespace manx::calc {

namespace {

constexpr uint32_t kProtocolMask = 0xffff0000U;

// What source ports in [first, the next one's first) have in common.
struct Interval {
    uint32_t first = 0;
    std::shared_ptr<const std::vector<Segment>> table; // the same one where the same steps match
};

// Where the set of steps that match by source port changes. Intervals do not cross protocols.
struct Events {
    std::vector<uint32_t> bounds{0};                     // first ports of the intervals
    std::vector<std::pair<uint32_t, uint32_t>> starting; // port, step; sorted
    std::vector<std::pair<uint32_t, uint32_t>> ending;   // first port behind, step; sorted
};

std::optional<Events> events_of(std::span<const RuleStep> steps) {
    Events out;
    for (uint32_t place = 0; place < steps.size(); ++place) {
        for (const auto& range : steps[place].source_ports) {
            out.starting.emplace_back(range.first, place);
            out.ending.emplace_back(range.last + 1, place);
            for (const uint32_t bound : {range.first, range.last + 1, range.first & kProtocolMask,
                                         (range.last | ~kProtocolMask) + 1}) {
                out.bounds.push_back(bound);
            }
        }
    }
    std::ranges::sort(out.bounds);
    out.bounds.erase(std::ranges::unique(out.bounds).begin(), out.bounds.end());
    if (out.bounds.size() > kMaxSourceIntervals) {
        return std::nullopt;
    }
    std::ranges::sort(out.starting);
    std::ranges::sort(out.ending);
    return out;
}

// nullopt: beyond kMaxSourceWork.
std::optional<std::vector<Interval>> intervals_of(std::span<const RuleStep> steps,
                                                  const Events& events) {
    constexpr size_t kStepWork = 8; // a step or a segment, in what one cell of runs_of() takes
    std::vector<const RuleStep*> always;
    for (const auto& step : steps) {
        if (step.source_ports.empty()) {
            always.push_back(&step);
        }
    }
    size_t work = 0;
    const auto table_of = [&](const std::set<uint32_t>& active) {
        std::vector<const RuleStep*> some;
        std::ranges::transform(active, std::back_inserter(some),
                               [&](uint32_t place) { return &steps[place]; });
        std::vector<const RuleStep*> taken;
        std::ranges::merge(always, some, std::back_inserter(taken)); // of one list: by place
        auto table = std::make_shared<const std::vector<Segment>>(resolve(taken));
        work += (taken.size() + table->size()) * kStepWork;
        return table;
    };
    const auto none = table_of({});
    std::set<uint32_t> active;
    std::vector<Interval> out;
    size_t start = 0;
    size_t end = 0;
    for (const uint32_t bound : events.bounds) {
        bool changed = false;
        for (; end < events.ending.size() && events.ending[end].first <= bound; ++end) {
            active.erase(events.ending[end].second);
            changed = true;
        }
        for (; start < events.starting.size() && events.starting[start].first <= bound; ++start) {
            active.insert(events.starting[start].second);
            changed = true;
        }
        if (active.empty()) {
            out.push_back({bound, none});
        } else {
            out.push_back({bound, changed ? table_of(active) : out.back().table});
        }
        if (work > kMaxSourceWork) {
            return std::nullopt;
        }
    }
    return out;
}

// Ends of destination ranges in which no interval's table changes, cut at protocols that have
// intervals.
std::vector<uint32_t> ends_of(std::span<const Interval> intervals) {
    std::vector<uint32_t> ends;
    const std::vector<Segment>* previous = nullptr;
    for (const auto& interval : intervals) {
        const uint32_t protocol = interval.first & kProtocolMask;
        ends.push_back(protocol | ~kProtocolMask);
        if (protocol != 0) {
            ends.push_back(protocol - 1);
        }
        if (interval.table.get() != previous) {
            for (const auto& segment : *interval.table) {
                ends.push_back(segment.last);
            }
        }
        previous = interval.table.get();
    }
    std::ranges::sort(ends);
    ends.erase(std::ranges::unique(ends).begin(), ends.end());
    return ends;
}

using Run = std::vector<manx_port>; // by source port

bool same_decision(const manx_port& a, const manx_port& b) {
    return a.action == b.action && a.rule == b.rule && a.flags == b.flags;
}

bool same_run(const Run& a, const Run& b) {
    return std::ranges::equal(a, b, [](const manx_port& one, const manx_port& other) {
        return one.last == other.last && same_decision(one, other);
    });
}

// Appends to the runs of the ends in [first, last] what one interval's table says about them. The
// end of the entry before it is the interval's begin. Returns how many entries it took.
size_t append(std::span<const uint32_t> ends, std::span<Run> runs, const Interval& interval) {
    size_t added = 0;
    auto segment = std::ranges::lower_bound(*interval.table, ends.front(), {}, &Segment::last);
    for (size_t i = 0; i < ends.size(); ++i) {
        while (segment->last < ends[i]) {
            ++segment;
        }
        const manx_port next = port_entry(0xffffffffU, segment->decision);
        if (runs[i].empty()) {
            runs[i].push_back(next);
        } else if (!same_decision(runs[i].back(), next)) {
            runs[i].back().last = interval.first - 1;
            runs[i].push_back(next);
            ++added;
        }
    }
    return added;
}

// The runs of all ends; nullopt where they take too many entries.
std::optional<std::vector<Run>> runs_of(std::span<const uint32_t> ends,
                                        std::span<const Interval> intervals) {
    std::vector<Run> runs(ends.size());
    size_t total = ends.size();
    size_t work = 0;
    for (size_t at = 0; at < ends.size();) {
        const uint32_t protocol = ends[at] & kProtocolMask;
        const auto end = std::ranges::upper_bound(ends, protocol | ~kProtocolMask);
        const auto count = static_cast<size_t>(end - ends.begin()) - at;
        // Those of the protocol; where it has none, the last one before it.
        auto interval = std::ranges::upper_bound(intervals, protocol, {}, &Interval::first) - 1;
        const std::vector<Segment>* previous = nullptr;
        do {
            if (interval->table.get() != previous) {
                total +=
                    append(ends.subspan(at, count), std::span(runs).subspan(at, count), *interval);
                work += count;
            }
            previous = interval->table.get();
            ++interval;
            if (total > kMaxTableEntries || work > kMaxSourceWork) {
                return std::nullopt;
            }
        } while (interval != intervals.end() && (interval->first & kProtocolMask) == protocol);
        at += count;
    }
    return runs;
}

} // namespace

bool compile_by_source(std::span<const RuleStep> steps, PortTable& out) {
    const auto events = events_of(steps);
    if (!events) {
        return false;
    }
    const auto intervals = intervals_of(steps, *events);
    if (!intervals) {
        return false;
    }
    const auto ends = ends_of(*intervals);
    const auto runs = runs_of(ends, *intervals);
    if (!runs) {
        return false;
    }
    std::vector<size_t> run_of; // by main entry
    for (size_t i = 0; i < ends.size(); ++i) {
        if (!run_of.empty() && same_run((*runs)[run_of.back()], (*runs)[i])) {
            out.entries.back().last = ends[i];
            continue;
        }
        const Run& run = (*runs)[i];
        manx_port entry = run.front();
        if (run.size() > 1) {
            entry = manx_port{};
            entry.action = MANX_ACTION_BY_SOURCE_PORT;
            entry.next_count = static_cast<__u16>(run.size());
        }
        entry.last = ends[i];
        out.entries.push_back(entry);
        run_of.push_back(i);
    }
    out.count = static_cast<uint32_t>(out.entries.size());
    for (size_t i = 0; i < out.count; ++i) {
        if (out.entries[i].action == MANX_ACTION_BY_SOURCE_PORT) {
            out.entries[i].next = static_cast<__u32>(out.entries.size());
            const Run& run = (*runs)[run_of[i]];
            out.entries.insert(out.entries.end(), run.begin(), run.end());
        }
    }
    return true;
}

std::vector<RuleStep> without_source_ports(std::span<const RuleStep> steps) {
    std::vector<RuleStep> out;
    for (const auto& step : steps) {
        if (step.source_ports.empty() || step.action == StepAction::Log) {
            out.push_back(step);
        } else if (step.action != StepAction::Allow) {
            // To pass could lead to an Allow of a later tier, not to pass to one of this tier.
            out.push_back(step);
            out.back().action = StepAction::Deny;
        }
    }
    return out;
}

} // namespace manx::calc
