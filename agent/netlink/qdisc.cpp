// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/qdisc.h"

#include <netlink/attr.h>

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <array>

namespace manx::netlink {

Result<std::map<uint32_t, Qdiscs>> list_qdiscs(Socket& socket) {
    Message dump(RTM_GETQDISC, NLM_F_DUMP, "list of qdiscs");
    dump.append(tcmsg{});
    std::map<uint32_t, Qdiscs> found;
    TRY(socket.dump(std::move(dump), [&](const nlmsghdr* header) {
        std::array<nlattr*, TCA_MAX + 1> attributes{};
        if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(tcmsg), attributes.data(), TCA_MAX,
                        nullptr) < 0 ||
            attributes[TCA_KIND] == nullptr) {
            return;
        }
        const auto* fixed = static_cast<const tcmsg*>(nlmsg_data(header));
        const auto ifindex = static_cast<uint32_t>(fixed->tcm_ifindex);
        if (fixed->tcm_parent == TC_H_ROOT) {
            found[ifindex].root = nla_get_string(attributes[TCA_KIND]);
        } else if (fixed->tcm_parent == TC_H_INGRESS) {
            found[ifindex].ingress = nla_get_string(attributes[TCA_KIND]);
        }
    }));
    return found;
}

} // namespace manx::netlink
