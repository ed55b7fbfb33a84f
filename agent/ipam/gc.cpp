// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/gc.h"

#include "agent/api/cluster_information.h"
#include "agent/api/meta.h"
#include "agent/ipam/environment.h"
#include "agent/ipam/repair.h"
#include "agent/ipam/survey.h"
#include "base/log.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

namespace manx::ipam {

namespace {

constexpr std::chrono::minutes kLeastGraceOfMachines{5}; // virtual machines move slowly

// Also where the object cannot be read.
Result<bool> is_locked(datastore::Store& store) {
    auto object = store.get({api::Kind::ClusterInformation, "", "default"});
    if (!object) {
        return object.error().kind == ErrorKind::NotFound ? Result<bool>(false)
                                                          : Unexpected(object.error());
    }
    auto parsed = api::parse_json(object->json);
    auto info = parsed ? api::ClusterInformation::from_json(*parsed) : Unexpected(parsed.error());
    return !info || !info->datastore_ready;
}

class Pass {
public:
    Pass(datastore::Store& store, Time now, CollectorState& state, const CollectorOptions& options)
        : store_(store), now_(now), state_(state), options_(options), repair_(store, options.ipam) {
    }

    Result<Collected> run() {
        TRY_ASSIGN(out_.held, is_locked(store_));
        if (out_.held) {
            state_.seen.clear();
            return out_;
        }
        TRY_ASSIGN(auto snapshot, take_snapshot(store_));
        for (const std::string& broken : snapshot.left_out.broken) {
            log::get("ipam")->error("an object is left out: {}", broken);
        }
        TRY_ASSIGN(auto environment, load_environment(store_, {"", "virtual"}));
        Survey found = survey(snapshot);
        collect_leaks(found);
        for (const auto& block : found.cooled) {
            repair([&] { return repair_.free_cooled(block, environment.cooldown()); },
                   out_.cooled_freed);
        }
        for (const auto& finding : found.affinities) {
            bool gone = finding.fault == AffinityFault::NodeGone;
            if (ripe(finding.key(), options_.fault_grace) || gone) {
                repair([&] { return repair_.fix(finding); }, out_.affinities_repaired);
            }
        }
        for (const auto& block : found.of_gone) {
            repair([&] { return repair_.release_of_gone(block); }, out_.blocks_released);
        }
        for (const auto& block : found.empty) {
            if (ripe(block.key(), std::max(options_.leak_grace, options_.fault_grace))) {
                repair([&] { return repair_.release_empty(block); }, out_.blocks_released);
            }
        }
        for (const auto& block : found.unowned) {
            if (ripe(block.key(), options_.fault_grace)) {
                repair([&] { return repair_.remove_unowned(block); }, out_.blocks_released);
            }
        }
        for (const auto& block : found.no_affinity) {
            if (ripe(block.key(), options_.fault_grace)) {
                repair([&] { return repair_.restore_affinity(block); }, out_.affinities_repaired);
            }
        }
        for (const auto& marked : found.deleted) {
            if (ripe("deleted " + marked.text(), options_.fault_grace)) {
                repair([&] { return repair_.finish_delete(marked); }, out_.deletes_finished);
            }
        }
        for (const auto& handle : found.handles) {
            if (ripe(handle.key(), options_.fault_grace)) {
                repair([&] { return repair_.fix(handle); }, out_.handles_repaired);
            }
        }
        state_.seen = std::move(seen_);
        return out_;
    }

private:
    // Seen before, unchanged, for that long. Also remembers it for the next pass.
    bool ripe(const std::string& key, std::chrono::seconds grace) {
        CollectorState::Seen seen{now_, 0};
        auto before = state_.seen.find(key);
        if (before != state_.seen.end()) {
            seen = before->second;
            seen.first = std::min(seen.first, now_); // the clock may have been set back
        }
        seen.passes++;
        seen_[key] = seen;
        return seen.passes >= 2 && now_ - seen.first >= grace;
    }

    void collect_leaks(const Survey& found) {
        struct ByHandle {
            std::vector<Leak> leaks;
            bool ripe = true;
        };

        std::map<std::string, ByHandle> by_handle;
        for (const Leak& leak : found.leaks) {
            out_.leaks_suspected++;
            auto grace = options_.leak_grace;
            if (leak.attribute.secondary.contains("vmi-name")) {
                grace = std::max<std::chrono::seconds>(grace, kLeastGraceOfMachines);
            }
            bool ready = ripe(leak.key(), grace) && options_.leak_grace.count() > 0;
            // Addresses without a handle stand alone.
            std::string key = leak.attribute.handle_id
                                  ? std::string(clean_handle(*leak.attribute.handle_id))
                                  : leak.key();
            auto& group = by_handle[key];
            group.ripe = group.ripe && leak.whole_handle && (ready || leak.node_gone);
            group.leaks.push_back(leak);
        }
        for (const auto& [handle, group] : by_handle) {
            if (group.ripe && out_.leaks_released < options_.batch) {
                log::get("ipam")->info("releasing leaked addresses handle={} first={} count={}",
                                       handle, group.leaks.front().address.text(),
                                       group.leaks.size());
                repair([&] { return repair_.release(group.leaks); }, out_.leaks_released);
            }
        }
    }

    // Unless the datastore has been locked since the pass began.
    template <typename Fn>
    void repair(Fn fn, unsigned& counter) {
        if (!out_.held) {
            auto locked = is_locked(store_);
            out_.held = !locked || *locked;
        }
        if (out_.held) {
            return;
        }
        const auto result = fn();
        if (result) {
            counter += static_cast<unsigned>(*result);
            return;
        }
        out_.failures++;
        log::get("ipam")->warn("a repair failed: {}", result.error().text());
    }

    datastore::Store& store_;
    Time now_;
    CollectorState& state_;
    const CollectorOptions& options_;
    Repair repair_;
    std::map<std::string, CollectorState::Seen> seen_;
    Collected out_;
};

} // namespace

Result<Collected> collect_once(datastore::Store& store, Time now, CollectorState& state,
                               const CollectorOptions& options) {
    CollectorOptions own = options;
    own.ipam.clock = [now] { return now; };
    return Pass(store, now, state, own).run();
}

} // namespace manx::ipam
