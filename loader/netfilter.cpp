// SPDX-License-Identifier: Apache-2.0
#include "loader/netfilter.h"

#include "base/unique_fd.h"
#include "loader/pin.h"

#include <bpf/bpf.h>

#include <sys/syscall.h>

#include <linux/netfilter.h>

#include <array>
#include <cerrno>
#include <unistd.h>

namespace manx::loader {

namespace {

struct Place {
    const char* name; // of the link
    uint32_t family;
};

constexpr std::array kPlaces{Place{"to_host4", NFPROTO_IPV4}, Place{"to_host6", NFPROTO_IPV6}};

// Behind IPVS, which translates here too (98 and 99), and input's own source translation (100). A
// link may not have the priority of another hook, be it that of the link which it takes over from:
// the first that is free.
constexpr int32_t kFirstPriority = 110;
constexpr int32_t kLastPriority = 119;

// What BPF_LINK_CREATE is told of a netfilter link.
struct LinkRequest {
    uint32_t program_fd;
    uint32_t target_fd; // none: the caller's network namespace
    uint32_t attach_type;
    uint32_t flags;
    uint32_t family;
    uint32_t hook;
    int32_t priority;
    uint32_t netfilter_flags;
};

struct LinkInfo {
    uint32_t type;
    uint32_t id;
    uint32_t program_id;
    uint32_t pad;
    uint32_t family;
    uint32_t hook;
    int32_t priority;
    uint32_t flags;
    uint8_t rest[64]; // what later kernels may say of other links
};

std::string where_text(const Place& place) {
    return place.family == NFPROTO_IPV4 ? "netfilter LOCAL_IN of IPv4"
                                        : "netfilter LOCAL_IN of IPv6";
}

Result<UniqueFd> create_link(const Place& place, int program_fd) {
    LinkRequest request{};
    request.program_fd = static_cast<uint32_t>(program_fd);
    request.attach_type = kAttachTypeNetfilter;
    request.family = place.family;
    request.hook = NF_INET_LOCAL_IN;
    for (request.priority = kFirstPriority; request.priority <= kLastPriority; request.priority++) {
        UniqueFd link(
            static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &request, sizeof(request))));
        if (link) {
            return link;
        }
        if (errno != EBUSY) {
            break;
        }
    }
    return fail_errno("attach to " + where_text(place));
}

Result<uint32_t> program_id(int program_fd) {
    bpf_prog_info info{};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(program_fd, &info, &size) < 0) {
        return fail_errno("read a program");
    }
    return info.id;
}

Result<void> detach(int link, const std::string& path) {
    if (bpf_link_detach(link) < 0 && errno != ENOLINK) {
        return fail_errno("detach link " + path);
    }
    return {};
}

Result<void> attach(const Place& place, const std::string& folder, int program_fd) {
    const std::string path = folder + "/" + place.name;
    const UniqueFd old(bpf_obj_get(path.c_str()));
    if (old) {
        LinkInfo info{};
        uint32_t size = sizeof(info);
        if (bpf_obj_get_info_by_fd(old.get(), &info, &size) < 0) {
            return fail_errno("read link " + path);
        }
        TRY_ASSIGN(const uint32_t ours, program_id(program_fd));
        if (info.program_id == ours) {
            return {};
        }
    }
    TRY_ASSIGN(const UniqueFd link, create_link(place, program_fd));
    TRY(replace_pin(link.get(), path));
    return old ? detach(old.get(), path) : Result<void>{};
}

} // namespace

bool has_netfilter_programs() {
    // r0 = NF_DROP; exit
    const std::array<bpf_insn, 2> empty{
        bpf_insn{
            .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
        bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    bpf_prog_load_opts options{};
    options.sz = sizeof(options);
    options.expected_attach_type = kAttachTypeNetfilter;
    const UniqueFd program(bpf_prog_load(netfilter_program_type(), "manx_probe", "GPL",
                                         empty.data(), empty.size(), &options));
    return static_cast<bool>(program);
}

bool is_to_host_link(const std::string& name) {
    return name == kPlaces[0].name || name == kPlaces[1].name;
}

Result<void> attach_to_host(const std::string& folder, int program_fd) {
    for (const Place& place : kPlaces) {
        TRY(attach(place, folder, program_fd));
    }
    return {};
}

Result<void> detach_to_host(const std::string& folder) {
    for (const Place& place : kPlaces) {
        const std::string path = folder + "/" + place.name;
        const UniqueFd link(bpf_obj_get(path.c_str()));
        if (!link) {
            if (errno == ENOENT) {
                continue;
            }
            return fail_errno("open link " + path);
        }
        TRY(detach(link.get(), path));
        TRY(remove_pin(path));
    }
    return {};
}

} // namespace manx::loader
