// SPDX-License-Identifier: Apache-2.0
#include "loader/qdisc.h"

#include "base/unique_fd.h"

#include <bpf/libbpf.h>

#include <sys/socket.h>

#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

namespace manx::loader {

namespace {

// What libbpf takes as "the qdisc, not a side of it".
constexpr auto kBothSides = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);

struct Request {
    nlmsghdr header;
    tcmsg fixed;
};

// The kernel's macros cast as C does.
template <typename T>
const T* payload(const nlmsghdr* header) {
    return reinterpret_cast<const T*>(reinterpret_cast<const char*>(header) + NLMSG_HDRLEN);
}

const char* value_of(const rtattr* attribute) {
    return reinterpret_cast<const char*>(attribute) + RTA_LENGTH(0);
}

std::string_view kind_of(const nlmsghdr* header) {
    auto left = static_cast<int>(NLMSG_PAYLOAD(header, sizeof(tcmsg)));
    const char* at = payload<char>(header) + NLMSG_ALIGN(sizeof(tcmsg));
    while (left >= static_cast<int>(sizeof(rtattr))) {
        const auto* attribute = reinterpret_cast<const rtattr*>(at);
        if (!RTA_OK(attribute, left)) {
            break;
        }
        if (attribute->rta_type == TCA_KIND) {
            return {value_of(attribute), strnlen(value_of(attribute), RTA_PAYLOAD(attribute))};
        }
        const int size = RTA_ALIGN(attribute->rta_len);
        at += size;
        left -= size;
    }
    return {};
}

// A dump of qdiscs or filters; fn is called with each.
Result<void> dump(uint16_t type, const tcmsg& fixed,
                  const std::function<void(const nlmsghdr*)>& fn) {
    const UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    Request request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.header.nlmsg_seq = 1;
    request.fixed = fixed;
    if (!fd || send(fd.get(), &request, sizeof request, 0) < 0) {
        return fail_errno("ask for traffic control");
    }
    alignas(nlmsghdr) std::array<char, 32768> buffer{};
    while (true) {
        const ssize_t n = recv(fd.get(), buffer.data(), buffer.size(), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return fail_errno("read traffic control");
        }
        auto left = static_cast<unsigned>(n);
        const char* at = buffer.data();
        while (left >= sizeof(nlmsghdr)) {
            const auto* one = reinterpret_cast<const nlmsghdr*>(at);
            if (!NLMSG_OK(one, left)) {
                break;
            }
            const unsigned size = NLMSG_ALIGN(one->nlmsg_len);
            at += size;
            left -= size < left ? size : left;
            if (one->nlmsg_type == NLMSG_DONE) {
                return {};
            }
            if (one->nlmsg_type == NLMSG_ERROR) {
                const int error = payload<nlmsgerr>(one)->error;
                return fail(ErrorKind::System, "list traffic control", -error);
            }
            fn(one);
        }
    }
}

Result<bool> has_filters(uint32_t ifindex, uint32_t hook) {
    tcmsg at{};
    at.tcm_ifindex = static_cast<int>(ifindex);
    at.tcm_parent = TC_H_MAKE(TC_H_CLSACT, hook);
    bool found = false;
    TRY(dump(RTM_GETTFILTER, at, [&](const nlmsghdr*) { found = true; }));
    return found;
}

} // namespace

Result<std::set<uint32_t>> devices_with_clsact() {
    std::set<uint32_t> devices;
    TRY(dump(RTM_GETQDISC, {}, [&](const nlmsghdr* header) {
        if (header->nlmsg_type == RTM_NEWQDISC && kind_of(header) == "clsact") {
            devices.insert(static_cast<uint32_t>(payload<tcmsg>(header)->tcm_ifindex));
        }
    }));
    return devices;
}

Result<void> remove_empty_clsact(uint32_t ifindex) {
    for (const uint32_t hook : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
        TRY_ASSIGN(const bool used, has_filters(ifindex, hook));
        if (used) {
            return {};
        }
    }
    bpf_tc_hook whole{};
    whole.sz = sizeof(whole);
    whole.ifindex = static_cast<int>(ifindex);
    whole.attach_point = kBothSides;
    if (const int rc = bpf_tc_hook_destroy(&whole); rc < 0 && rc != -ENOENT && rc != -EINVAL) {
        return fail(ErrorKind::System,
                    "remove the empty clsact qdisc of interface " + std::to_string(ifindex), -rc);
    }
    return {};
}

} // namespace manx::loader
