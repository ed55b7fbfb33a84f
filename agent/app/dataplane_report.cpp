// SPDX-License-Identifier: Apache-2.0
#include "agent/app/dataplane_report.h"

#include "agent/netlink/link.h"
#include "maps/reason.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <string>

namespace manx::app {

namespace {

using Total = std::function<void(manx_hook, manx_reason, const manx_counter&)>;

void for_each_total(const loader::Loader& loader, const Total& fn) {
    auto totals = loader.per_cpu_map(maps::kTotals);
    if (!totals) {
        return;
    }
    for (int h = 0; h < MANX_HOOKS; h++) {
        for (int r = 0; r < MANX_REASON_MAX; r++) {
            auto hook = static_cast<manx_hook>(h);
            auto reason = static_cast<manx_reason>(r);
            auto value = totals->lookup(maps::total_index(hook, reason));
            if (value && *value && (*value)->packets != 0) {
                fn(hook, reason, **value);
            }
        }
    }
}

} // namespace

void DataplaneReport::collect(metrics::Registry::Families& out) const {
    for_each_total(loader_, [&](manx_hook hook, manx_reason reason, const manx_counter& value) {
        metrics::Labels labels{{"hook", std::string(maps::hook_name(hook))},
                               {"reason", std::string(maps::reason_name(reason))}};
        metrics::counter(out, "manx_packets_total", "Packets by hook and what became of them.",
                         static_cast<double>(value.packets), labels);
        metrics::counter(out, "manx_bytes_total", "Bytes by hook and what became of them.",
                         static_cast<double>(value.bytes), labels);
    });
    if (auto drops = loader_.per_cpu_map(maps::kCounters)) {
        auto read = drops->for_each([&](const manx_counter_key& key, const manx_counter& value) {
            metrics::counter(
                out, "manx_device_drops_total", "Dropped packets by device and reason.",
                static_cast<double>(value.packets),
                {{"device", netlink::device_name(key.ifindex)},
                 {"hook", std::string(maps::hook_name(static_cast<manx_hook>(key.hook)))},
                 {"reason", std::string(maps::reason_name(static_cast<manx_reason>(key.reason)))}});
        });
        (void)read; // a scrape shows what could be read
    }
    auto programs = loader_.programs();
    metrics::gauge(out, "manx_bpf_programs", "Loaded programs; does not depend on pods or policy.",
                   static_cast<double>(programs.size()));
}

nlohmann::json DataplaneReport::totals() const {
    nlohmann::json out = nlohmann::json::object();
    for_each_total(loader_, [&](manx_hook hook, manx_reason reason, const manx_counter& value) {
        out[std::string(maps::hook_name(hook))][std::string(maps::reason_name(reason))] = {
            {"packets", value.packets}, {"bytes", value.bytes}};
    });
    return out;
}

} // namespace manx::app
