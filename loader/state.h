// SPDX-License-Identifier: Apache-2.0
// What a Loader holds: descriptors of the maps and programs, and what is on the devices. How it is
// loaded or adopted from pins at the start. Within loader/ only.
//
// Layout below the bpffs folder: maps/NAME, progs/NAME, links/, build_ID (an empty folder named
// after the build whose programs are pinned).
#pragma once

#include "loader/attach.h"
#include "loader/loader.h"
#include "loader/objects.h"
#include "maps/reason.h"

#include <array>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manx::loader {

inline constexpr std::array kWorkloadHooks{MANX_HOOK_FROM_WORKLOAD, MANX_HOOK_TO_WORKLOAD};
inline constexpr std::array kUplinkHooks{MANX_HOOK_FROM_UPLINK, MANX_HOOK_TO_UPLINK};
// Of a device.
inline constexpr std::array kAllHooks{MANX_HOOK_FROM_WORKLOAD, MANX_HOOK_TO_WORKLOAD,
                                      MANX_HOOK_FROM_UPLINK, MANX_HOOK_TO_UPLINK};

inline constexpr std::string_view kBuildPrefix = "build_";

// Names in a folder; none if it is not there.
Result<std::vector<std::string>> list_folder(const std::string& folder);
bool interface_exists(uint32_t ifindex);

struct Loader::State {
    std::string bpffs;
    FdTable maps;
    LoadedPrograms programs;
    bool tcx = false;
    // Devices with a clsact qdisc, from before a change to tcx: it may hold our filters.
    std::mutex clsact_mutex;
    std::set<uint32_t> clsact;

    [[nodiscard]] std::string link_path(uint32_t ifindex, manx_hook hook) const {
        return bpffs + "/links/" + link_name(ifindex, hook);
    }

    [[nodiscard]] bool judges_to_host() const {
        return programs.fds.contains(kHookPrograms.at(MANX_HOOK_TO_HOST));
    }

    [[nodiscard]] int program(manx_hook hook) const {
        return programs.fds.at(kHookPrograms.at(hook)).get();
    }

    Result<void> open(const LoadOptions& options);
    Result<void> adopt_or_load_programs(bool maps_adopted, bool netfilter);
    [[nodiscard]] Result<void> remove_build_markers() const;
    Result<void> seed_config();
    Result<void> start_expiry();
    Result<void> adopt_links();
    Result<void> forget_gone_uplinks();
    void forget_gone_drops();
    void forget_drops(uint32_t ifindex, manx_hook hook);
    Result<void> attach(uint32_t ifindex, std::span<const manx_hook> hooks);
    void leave_clsact(uint32_t ifindex, std::span<const manx_hook> hooks);
    Result<void> detach(uint32_t ifindex, manx_hook hook);
    Result<void> write_config(const manx_config& config);
    [[nodiscard]] Result<manx_config> read_config() const;
};

} // namespace manx::loader
