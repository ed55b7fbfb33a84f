// SPDX-License-Identifier: Apache-2.0
#include "loader/loader.h"

#include "base/log.h"
#include "loader/attach.h"
#include "loader/expedite.h"
#include "loader/netfilter.h"
#include "loader/objects.h"
#include "loader/pin.h"
#include "loader/qdisc.h"
#include "maps/reason.h"

#include <bpf/bpf.h>

#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <set>
#include <span>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace manx::loader {

namespace fs = std::filesystem;

namespace {

// Of a device.
constexpr std::array kAllHooks{MANX_HOOK_FROM_WORKLOAD, MANX_HOOK_TO_WORKLOAD,
                               MANX_HOOK_FROM_UPLINK, MANX_HOOK_TO_UPLINK};

constexpr std::array kWorkloadHooks{MANX_HOOK_FROM_WORKLOAD, MANX_HOOK_TO_WORKLOAD};
constexpr std::array kUplinkHooks{MANX_HOOK_FROM_UPLINK, MANX_HOOK_TO_UPLINK};

constexpr const char* kBuildPrefix = "build_";

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

Result<std::vector<std::string>> list(const std::string& folder) {
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

// The programs read an Ethernet header.
Result<void> check_ethernet(uint32_t ifindex) {
    ifreq request{};
    if (if_indextoname(ifindex, request.ifr_name) == nullptr) {
        return fail(ErrorKind::NotFound, "attach to interface " + std::to_string(ifindex), errno);
    }
    const UniqueFd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket_fd || ioctl(socket_fd.get(), SIOCGIFHWADDR, &request) < 0) {
        return fail_errno(std::string("read the type of interface ") + request.ifr_name);
    }
    if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
        return fail(ErrorKind::ConfigReality, std::string("interface ") + request.ifr_name +
                                                  " is not Ethernet: no program for it");
    }
    return {};
}

} // namespace

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
    const std::string marker = bpffs + "/" + kBuildPrefix + build_id();
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
    TRY_ASSIGN(const std::vector<std::string> names, list(bpffs));
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
    TRY_ASSIGN(const std::vector<std::string> names, list(bpffs + "/links"));
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

Loader::Loader(std::unique_ptr<State> state) : state_(std::move(state)) {
}

Loader::Loader(Loader&&) noexcept = default;
Loader& Loader::operator=(Loader&&) noexcept = default;
Loader::~Loader() = default;

Result<Loader> Loader::open(const std::string& bpffs, const LoadOptions& options) {
    auto state = std::make_unique<State>();
    state->bpffs = bpffs;
    if (Result<void> opened = state->open(options); !opened) {
        return Unexpected(opened.error().within("load the BPF dataplane"));
    }
    return Loader(std::move(state));
}

Result<void> Loader::attach_workload(uint32_t ifindex) {
    TRY(check_ethernet(ifindex));
    return state_->attach(ifindex, kWorkloadHooks);
}

Result<std::vector<std::string>> Loader::missing_of_workload(uint32_t ifindex) const {
    std::vector<std::string> missing;
    for (const manx_hook hook : kWorkloadHooks) {
        const int program = state_->program(hook);
        TRY_ASSIGN(const bool there,
                   state_->tcx ? has_tcx_link(state_->link_path(ifindex, hook), ifindex, program)
                               : has_clsact_filter(ifindex, hook, program));
        if (!there) {
            missing.emplace_back(kHookPrograms.at(hook));
        }
    }
    return missing;
}

Result<void> Loader::clean_up_workload(uint32_t ifindex) {
    for (const manx_hook hook : kWorkloadHooks) {
        TRY_ASSIGN(const bool gone, remove_dead_link(state_->link_path(ifindex, hook)));
        if (gone && !interface_exists(ifindex)) {
            state_->forget_drops(ifindex, hook);
        }
    }
    if (!interface_exists(ifindex)) {
        state_->forget_drops(ifindex, MANX_HOOK_TO_HOST);
    }
    return {};
}

Result<void> Loader::clean_up_gone_workloads() {
    TRY_ASSIGN(const std::vector<Attachment> attached, attachments());
    for (const Attachment& one : attached) {
        if (one.hook == MANX_HOOK_FROM_WORKLOAD && !interface_exists(one.ifindex)) {
            TRY(clean_up_workload(one.ifindex));
        }
    }
    return {};
}

Result<void> Loader::attach_uplink(uint32_t ifindex) {
    TRY(check_ethernet(ifindex));
    TRY(state_->attach(ifindex, kUplinkHooks));
    const manx_uplink uplink{};
    if (bpf_map_update_elem(state_->maps.at("manx_uplinks").get(), &ifindex, &uplink, BPF_ANY) <
        0) {
        return fail_errno("write map manx_uplinks");
    }
    return {};
}

Result<void> Loader::detach(uint32_t ifindex) {
    (void)bpf_map_delete_elem(state_->maps.at("manx_uplinks").get(), &ifindex); // if it is one
    const Expedite expedite;
    for (const manx_hook hook : kAllHooks) {
        TRY(state_->detach(ifindex, hook));
    }
    state_->forget_drops(ifindex, MANX_HOOK_TO_HOST);
    return {};
}

Result<bool> Loader::attach_to_host() {
    if (!state_->judges_to_host()) {
        return false;
    }
    TRY(loader::attach_to_host(state_->bpffs + "/links", state_->program(MANX_HOOK_TO_HOST)));
    return true;
}

Result<std::vector<Attachment>> Loader::attachments() const {
    TRY_ASSIGN(const std::vector<std::string> names, list(state_->bpffs + "/links"));
    std::vector<Attachment> found;
    for (const std::string& name : names) {
        Attachment one;
        if (parse_link_name(name, one.ifindex, one.hook)) {
            found.push_back(one);
        }
    }
    return found;
}

Result<void> Loader::remove_all() {
    TRY_ASSIGN(const std::vector<Attachment> attached, attachments());
    {
        const Expedite expedite;
        for (const Attachment& one : attached) {
            TRY(state_->detach(one.ifindex, one.hook));
        }
    }
    TRY(detach_clsact_everywhere());
    TRY(detach_to_host(state_->bpffs + "/links"));
    TRY(state_->remove_build_markers());
    for (const char* folder : {"/links", "/progs", "/maps"}) {
        TRY_ASSIGN(const std::vector<std::string> names, list(state_->bpffs + folder));
        for (const std::string& name : names) {
            TRY(remove_pin(state_->bpffs + folder + "/" + name));
        }
        (void)rmdir((state_->bpffs + folder).c_str()); // stays where others put something
    }
    (void)rmdir(state_->bpffs.c_str());
    return {};
}

Result<int> Loader::map_fd(std::string_view name) const {
    const auto it = state_->maps.find(name);
    if (it == state_->maps.end()) {
        return fail(ErrorKind::NotFound, "no map named " + std::string(name));
    }
    return it->second.get();
}

Result<int> Loader::program_fd(std::string_view name) const {
    const auto it = state_->programs.fds.find(name);
    if (it == state_->programs.fds.end()) {
        return fail(ErrorKind::NotFound, "no program named " + std::string(name));
    }
    return it->second.get();
}

std::vector<ProgramInfo> Loader::programs() const {
    return state_->programs.infos;
}

Result<UniqueFd> Loader::duplicate_map_fd(const std::string& name) const {
    TRY_ASSIGN(const int fd, map_fd(name));
    UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) {
        return fail_errno("duplicate the descriptor of map " + name);
    }
    return copy;
}

Result<manx_config> Loader::config() const {
    return state_->read_config();
}

Result<void> Loader::set_config(const manx_config& config) {
    TRY_ASSIGN(const manx_config current, state_->read_config());
    manx_config next = config;
    next.epoch = current.epoch;
    next.policy_epoch = current.policy_epoch;
    return state_->write_config(next);
}

Result<void> Loader::bump_epoch() {
    TRY_ASSIGN(manx_config config, state_->read_config());
    config.epoch++;
    return state_->write_config(config);
}

Result<void> Loader::bump_policy_epoch() {
    TRY_ASSIGN(manx_config config, state_->read_config());
    config.policy_epoch++;
    return state_->write_config(config);
}

bool Loader::uses_tcx() const {
    return state_->tcx;
}

} // namespace manx::loader
