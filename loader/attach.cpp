// SPDX-License-Identifier: Apache-2.0
#include "loader/attach.h"

#include "base/unique_fd.h"
#include "maps/reason.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <net/if.h>

#include <cerrno>
#include <charconv>
#include <string_view>
#include <unistd.h>

namespace manx::loader {

namespace {

// From Linux 6.6's uapi/linux/bpf.h, which Debian 12's headers do not have yet.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);

struct TcxLinkInfo {
    uint32_t type;
    uint32_t id;
    uint32_t program_id;
    uint32_t pad;
    uint32_t ifindex; // 0: the interface is gone
    uint32_t attach_type;
    uint8_t rest[64]; // what later kernels may say of other links
};

// Our place among the filters of a clsact hook.
constexpr uint32_t kFilterHandle = 1;
constexpr uint32_t kFilterPriority = 0x4d58;

Result<TcxLinkInfo> link_info(int fd, const std::string& path) {
    TcxLinkInfo info{};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0) {
        return fail_errno("read link " + path);
    }
    return info;
}

Result<uint32_t> link_ifindex(int fd, const std::string& path) {
    TRY_ASSIGN(const TcxLinkInfo info, link_info(fd, path));
    return info.ifindex;
}

// 0: cannot be told.
uint32_t program_id(int program_fd) {
    bpf_prog_info info{};
    uint32_t size = sizeof(info);
    return bpf_obj_get_info_by_fd(program_fd, &info, &size) < 0 ? 0 : info.id;
}

bpf_attach_type tcx_type(manx_hook hook) {
    return is_ingress(hook) ? kTcxIngress : kTcxEgress;
}

bpf_tc_hook clsact_hook(uint32_t ifindex, manx_hook hook) {
    bpf_tc_hook where{};
    where.sz = sizeof(where);
    where.ifindex = static_cast<int>(ifindex);
    where.attach_point = is_ingress(hook) ? BPF_TC_INGRESS : BPF_TC_EGRESS;
    return where;
}

std::string where_text(uint32_t ifindex, manx_hook hook) {
    return std::string(maps::hook_name(hook)) + " on interface " + std::to_string(ifindex);
}

} // namespace

std::string link_name(uint32_t ifindex, manx_hook hook) {
    return std::to_string(ifindex) + "_" + std::string(maps::hook_name(hook));
}

bool parse_link_name(const std::string& name, uint32_t& ifindex, manx_hook& hook) {
    const char* end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data(), end, ifindex);
    if (error != std::errc{} || at == end || *at != '_') {
        return false;
    }
    const std::string_view text(at + 1, static_cast<size_t>(end - at - 1));
    for (const manx_hook candidate : {MANX_HOOK_FROM_WORKLOAD, MANX_HOOK_TO_WORKLOAD,
                                      MANX_HOOK_FROM_UPLINK, MANX_HOOK_TO_UPLINK}) {
        if (maps::hook_name(candidate) == text) {
            hook = candidate;
            return true;
        }
    }
    return false;
}

bool is_ingress(manx_hook hook) {
    return hook == MANX_HOOK_FROM_WORKLOAD || hook == MANX_HOOK_FROM_UPLINK;
}

bool has_tcx(int program_fd) {
    // No interface has index 0: a kernel with tcx says ENODEV, one without says EINVAL.
    const UniqueFd fd(bpf_link_create(program_fd, 0, kTcxIngress, nullptr));
    return fd || errno == ENODEV;
}

Result<void> attach_tcx(const std::string& path, uint32_t ifindex, manx_hook hook, int program_fd) {
    const UniqueFd pinned(bpf_obj_get(path.c_str()));
    if (pinned) {
        TRY_ASSIGN(const uint32_t attached, link_ifindex(pinned.get(), path));
        if (attached == ifindex) {
            if (bpf_link_update(pinned.get(), program_fd, nullptr) < 0) {
                return fail_errno("replace " + where_text(ifindex, hook));
            }
            return {};
        }
        if (unlink(path.c_str()) < 0) {
            return fail_errno("remove stale link " + path);
        }
    }
    const UniqueFd link(
        bpf_link_create(program_fd, static_cast<int>(ifindex), tcx_type(hook), nullptr));
    if (!link) {
        return fail(errno == ENODEV ? ErrorKind::NotFound : ErrorKind::System,
                    "attach " + where_text(ifindex, hook), errno);
    }
    if (bpf_obj_pin(link.get(), path.c_str()) < 0) {
        return fail_errno("pin link " + path);
    }
    return {};
}

Result<bool> update_tcx(const std::string& path, int program_fd) {
    const UniqueFd link(bpf_obj_get(path.c_str()));
    if (!link) {
        return fail_errno("open link " + path);
    }
    TRY_ASSIGN(const uint32_t attached, link_ifindex(link.get(), path));
    if (attached == 0) {
        return false;
    }
    if (bpf_link_update(link.get(), program_fd, nullptr) < 0) {
        if (errno == ENOLINK) {
            return false;
        }
        return fail_errno("replace the program of link " + path);
    }
    return true;
}

Result<bool> has_tcx_link(const std::string& path, uint32_t ifindex, int program_fd) {
    const UniqueFd link(bpf_obj_get(path.c_str()));
    if (!link) {
        return errno == ENOENT ? Result<bool>(false) : fail_errno("open link " + path);
    }
    TRY_ASSIGN(const TcxLinkInfo info, link_info(link.get(), path));
    return info.ifindex == ifindex && info.program_id == program_id(program_fd);
}

Result<bool> remove_dead_link(const std::string& path) {
    const UniqueFd link(bpf_obj_get(path.c_str()));
    if (!link) {
        return errno == ENOENT ? Result<bool>(true) : fail_errno("open link " + path);
    }
    TRY_ASSIGN(const uint32_t attached, link_ifindex(link.get(), path));
    if (attached != 0) {
        return false;
    }
    if (unlink(path.c_str()) < 0 && errno != ENOENT) {
        return fail_errno("remove link " + path);
    }
    return true;
}

Result<void> detach_tcx(const std::string& path) {
    const UniqueFd link(bpf_obj_get(path.c_str()));
    if (!link) {
        return errno == ENOENT ? Result<void>{} : fail_errno("open link " + path);
    }
    // ENOLINK: the interface is gone, and the link with it.
    if (bpf_link_detach(link.get()) < 0 && errno != ENOLINK) {
        return fail_errno("detach link " + path);
    }
    if (unlink(path.c_str()) < 0 && errno != ENOENT) {
        return fail_errno("remove link " + path);
    }
    return {};
}

Result<void> attach_clsact(uint32_t ifindex, manx_hook hook, int program_fd) {
    bpf_tc_hook where = clsact_hook(ifindex, hook);
    if (const int rc = bpf_tc_hook_create(&where); rc < 0 && rc != -EEXIST) {
        return fail(rc == -ENODEV || rc == -EINVAL ? ErrorKind::NotFound : ErrorKind::System,
                    "add a clsact qdisc for " + where_text(ifindex, hook), -rc);
    }
    bpf_tc_opts filter{};
    filter.sz = sizeof(filter);
    filter.prog_fd = program_fd;
    filter.flags = BPF_TC_F_REPLACE;
    filter.handle = kFilterHandle;
    filter.priority = kFilterPriority;
    if (const int rc = bpf_tc_attach(&where, &filter); rc < 0) {
        return fail(ErrorKind::System, "attach " + where_text(ifindex, hook), -rc);
    }
    return {};
}

Result<bool> has_clsact_filter(uint32_t ifindex, manx_hook hook, int program_fd) {
    const bpf_tc_hook where = clsact_hook(ifindex, hook);
    bpf_tc_opts filter{};
    filter.sz = sizeof(filter);
    filter.handle = kFilterHandle;
    filter.priority = kFilterPriority;
    const int rc = bpf_tc_query(&where, &filter);
    if (rc < 0 && rc != -ENOENT && rc != -EINVAL && rc != -ENODEV) {
        return fail(ErrorKind::System, "look for " + where_text(ifindex, hook), -rc);
    }
    return rc == 0 && filter.prog_id == program_id(program_fd);
}

Result<void> detach_clsact(uint32_t ifindex, manx_hook hook) {
    const bpf_tc_hook where = clsact_hook(ifindex, hook);
    bpf_tc_opts filter{};
    filter.sz = sizeof(filter);
    filter.handle = kFilterHandle;
    filter.priority = kFilterPriority;
    // The qdisc stays: others may have filters on it.
    const int rc = bpf_tc_detach(&where, &filter);
    if (rc < 0 && rc != -ENOENT && rc != -EINVAL && rc != -ENODEV) {
        return fail(ErrorKind::System, "detach " + where_text(ifindex, hook), -rc);
    }
    return {};
}

Result<void> detach_clsact_everywhere() {
    const UniqueHandle<struct if_nameindex, if_freenameindex> all(if_nameindex());
    if (!all) {
        return fail_errno("list interfaces");
    }
    for (const struct if_nameindex* one = all.get(); one->if_index != 0; one++) {
        // The two workload hooks stand for the two directions.
        TRY(detach_clsact(one->if_index, MANX_HOOK_FROM_WORKLOAD));
        TRY(detach_clsact(one->if_index, MANX_HOOK_TO_WORKLOAD));
    }
    return {};
}

} // namespace manx::loader
