// SPDX-License-Identifier: Apache-2.0
#include "loader/state.h"

#include "base/log.h"
#include "loader/attach.h"
#include "loader/expedite.h"
#include "loader/netfilter.h"
#include "loader/pin.h"
#include "loader/qdisc.h"

#include <bpf/bpf.h>

#include <net/if.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace manx::loader {

namespace fs = std::filesystem;

namespace {

constexpr manx_config kDefaultConfig{.epoch = 1,
                                     .policy_epoch = 1,
                                     .flags = 0,
                                     .vxlan_port = 4789,
                                     .timeout_s = {20, 3600, 40, 60, 5, 600}};

Result<void> make_folder(const std::string& path) {
    std::error_code error;
    fs::create_directories(path, error);
    if (error) {
        return fail(ErrorKind::System, "create folder " + path, error.value());
    }
    return {};
}

Result<void> check_bpffs(const std::string& path) {
    struct statfs info{};
    if (statfs(path.c_str(), &info) < 0) {
        return fail_errno("look at " + path);
    }
    if (static_cast<uint32_t>(info.f_type) != BPF_FS_MAGIC) {
        return fail(ErrorKind::ConfigReality,
                    "bpffs folder " + path +
                        " is not on a bpf file system: mount -t bpf bpf /sys/fs/bpf");
    }
    return {};
}

} // namespace

Result<std::vector<std::string>> list_folder(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        names.push_back(it->path().filename().string());
    }
    if (error && error != std::errc::no_such_file_or_directory) {
        return fail(ErrorKind::System, "list " + folder, error.value());
    }
    return names;
}

bool interface_exists(uint32_t ifindex) {
    std::array<char, IF_NAMESIZE> name{};
    return if_indextoname(ifindex, name.data()) != nullptr;
}

Result<void> Loader::State::open(const LoadOptions& options) {
    TRY(make_folder(bpffs));
    TRY(check_bpffs(bpffs));
    for (const char* folder : {"/maps", "/progs", "/links"}) {
        TRY(make_folder(bpffs + folder));
    }
    TRY_ASSIGN(OpenedMaps opened, open_maps(bpffs + "/maps", options.sizes));
    maps = std::move(opened.fds);
    TRY(seed_config());
    const bool netfilter = options.use_netfilter && has_netfilter_programs();
    TRY(adopt_or_load_programs(opened.all_adopted, netfilter));
    tcx = !options.force_clsact && has_tcx(program(MANX_HOOK_FROM_WORKLOAD));
    Expedite::begin(bpffs + "/rcu_expedited");
    if (tcx) {
        TRY_ASSIGN(clsact, devices_with_clsact());
    }
    TRY(start_expiry());
    TRY(adopt_links());
    forget_gone_drops();
    return forget_gone_uplinks();
}

// Programs of this very build that are pinned, on maps that are all there, are the ones we would
// load: the verifier has seen them. An empty folder named after the build says which are pinned.
Result<void> Loader::State::adopt_or_load_programs(bool maps_adopted, bool netfilter) {
    const std::string marker = bpffs + "/" + std::string(kBuildPrefix) + build_id();
    std::error_code error;
    if (maps_adopted && fs::exists(marker, error)) {
        if (Result<LoadedPrograms> pinned = open_programs(bpffs + "/progs", netfilter)) {
            programs = std::move(*pinned);
            return {};
        }
    }
    TRY_ASSIGN(programs, load_programs(maps, netfilter));
    TRY(remove_build_markers());
    for (const auto& [name, fd] : programs.fds) {
        TRY(replace_pin(fd.get(), bpffs + "/progs/" + name));
    }
    return make_folder(marker);
}

Result<void> Loader::State::remove_build_markers() const {
    TRY_ASSIGN(const std::vector<std::string> names, list_folder(bpffs));
    for (const std::string& name : names) {
        if (name.starts_with(kBuildPrefix) && rmdir((bpffs + "/" + name).c_str()) < 0) {
            return fail_errno("remove " + bpffs + "/" + name);
        }
    }
    return {};
}

Result<manx_config> Loader::State::read_config() const {
    const uint32_t zero = 0;
    manx_config config{};
    if (bpf_map_lookup_elem(maps.at("manx_config").get(), &zero, &config) < 0) {
        return fail_errno("read map manx_config");
    }
    return config;
}

Result<void> Loader::State::write_config(const manx_config& config) {
    const uint32_t zero = 0;
    if (bpf_map_update_elem(maps.at("manx_config").get(), &zero, &config, BPF_ANY) < 0) {
        return fail_errno("write map manx_config");
    }
    return {};
}

Result<void> Loader::State::seed_config() {
    TRY_ASSIGN(const manx_config config, read_config());
    return config.epoch == 0 ? write_config(kDefaultConfig) : Result<void>{};
}

// The expiry timer is armed by running its program once; a timer that an earlier process started
// gets this program's callback.
Result<void> Loader::State::start_expiry() {
    std::array<uint8_t, 64> packet{};
    bpf_test_run_opts run{};
    run.sz = sizeof(run);
    run.data_in = packet.data();
    run.data_size_in = packet.size();
    run.repeat = 1;
    if (bpf_prog_test_run_opts(programs.fds.at("tc_expiry").get(), &run) < 0) {
        return fail_errno("start the expiry timer");
    }
    if (run.retval != 0) {
        return fail(ErrorKind::System, "start the expiry timer",
                    -static_cast<int>(static_cast<int32_t>(run.retval)));
    }
    return {};
}

Result<void> Loader::State::adopt_links() {
    TRY_ASSIGN(const std::vector<std::string> names, list_folder(bpffs + "/links"));
    for (const std::string& name : names) {
        if (is_to_host_link(name)) {
            TRY(judges_to_host()
                    ? loader::attach_to_host(bpffs + "/links", program(MANX_HOOK_TO_HOST))
                    : detach_to_host(bpffs + "/links"));
            continue;
        }
        const std::string path = bpffs + "/links/" + name;
        uint32_t ifindex = 0;
        manx_hook hook{};
        if (!parse_link_name(name, ifindex, hook)) {
            log::get("loader")->warn("leaving an unknown pin alone path={}", path);
            continue;
        }
        TRY_ASSIGN(const bool alive, update_tcx(path, program(hook)));
        if (!alive) {
            TRY(remove_pin(path));
        } else if (!tcx) {
            // Asked to use clsact: first the filter, then the link goes, so that there is no gap.
            TRY(attach_clsact(ifindex, hook, program(hook)));
            TRY(detach_tcx(path));
        }
    }
    return {};
}

Result<void> Loader::State::forget_gone_uplinks() {
    const int fd = maps.at("manx_uplinks").get();
    std::vector<uint32_t> gone;
    uint32_t key = 0;
    uint32_t next = 0;
    const uint32_t* at = nullptr;
    while (bpf_map_get_next_key(fd, at, &next) == 0) {
        key = next;
        at = &key;
        if (!interface_exists(key)) {
            gone.push_back(key);
        }
    }
    for (const uint32_t ifindex : gone) {
        if (bpf_map_delete_elem(fd, &ifindex) < 0 && errno != ENOENT) {
            return fail_errno("delete from map manx_uplinks");
        }
    }
    return {};
}

Result<void> Loader::State::attach(uint32_t ifindex, std::span<const manx_hook> hooks) {
    if (!tcx) {
        for (const manx_hook hook : hooks) {
            TRY(attach_clsact(ifindex, hook, program(hook)));
        }
        return {};
    }
    {
        const Expedite expedite;
        for (const manx_hook hook : hooks) {
            TRY(attach_tcx(link_path(ifindex, hook), ifindex, hook, program(hook)));
        }
    }
    leave_clsact(ifindex, hooks);
    return {};
}

// Filters of an earlier process that was told to use clsact, or knew no better. tcx runs first and
// ends the hook, so both at once did no harm.
void Loader::State::leave_clsact(uint32_t ifindex, std::span<const manx_hook> hooks) {
    {
        const std::lock_guard lock(clsact_mutex);
        if (clsact.erase(ifindex) == 0) {
            return;
        }
    }
    for (const manx_hook hook : hooks) {
        (void)detach_clsact(ifindex, hook);
    }
    if (auto removed = remove_empty_clsact(ifindex); !removed) {
        log::get("loader")->warn("{}", removed.error().text());
    }
}

Result<void> Loader::State::detach(uint32_t ifindex, manx_hook hook) {
    TRY(detach_tcx(link_path(ifindex, hook)));
    if (interface_exists(ifindex)) {
        TRY(detach_clsact(ifindex, hook));
    }
    forget_drops(ifindex, hook);
    return {};
}

// Counters of what is gone would be taken for those of the next interface with this index.
void Loader::State::forget_drops(uint32_t ifindex, manx_hook hook) {
    for (uint16_t reason = 0; reason < MANX_REASON_MAX; reason++) {
        const manx_counter_key key{
            .ifindex = ifindex, .hook = static_cast<uint16_t>(hook), .reason = reason};
        (void)bpf_map_delete_elem(maps.at("manx_counters").get(), &key); // most are not there
    }
}

void Loader::State::forget_gone_drops() {
    const int fd = maps.at("manx_counters").get();
    std::set<uint32_t> counted;
    manx_counter_key key{};
    manx_counter_key next{};
    const manx_counter_key* at = nullptr;
    while (bpf_map_get_next_key(fd, at, &next) == 0) {
        key = next;
        at = &key;
        counted.insert(key.ifindex);
    }
    for (const uint32_t ifindex : counted) {
        if (!interface_exists(ifindex)) {
            for (const manx_hook hook : kAllHooks) {
                forget_drops(ifindex, hook);
            }
            forget_drops(ifindex, MANX_HOOK_TO_HOST);
        }
    }
}

} // namespace manx::loader
