// SPDX-License-Identifier: Apache-2.0
#include "loader/loader.h"

#include "loader/attach.h"
#include "loader/expedite.h"
#include "loader/netfilter.h"
#include "loader/pin.h"
#include "loader/qdisc.h"
#include "loader/state.h"

#include <bpf/bpf.h>

#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace manx::loader {

namespace {

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
    TRY_ASSIGN(const std::vector<std::string> names, list_folder(state_->bpffs + "/links"));
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
        TRY_ASSIGN(const std::vector<std::string> names, list_folder(state_->bpffs + folder));
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
