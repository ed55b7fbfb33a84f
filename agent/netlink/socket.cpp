// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/socket.h"

#include "agent/netlink/netns.h"

#include <netlink/attr.h>

#include <sys/socket.h>
#include <sys/uio.h>

#include <linux/netlink.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace manx::netlink {

namespace {

// A dump's messages are at most this long (the kernel's own bound for NLMSG_GOODSIZE is below it).
constexpr size_t kReceiveBuffer = 64 * 1024;
// Requests per system call: their acknowledgements must fit into the socket's receive queue.
constexpr size_t kBatch = 64;

const nlmsgerr& outcome_of(const nlmsghdr* header) {
    return *static_cast<const nlmsgerr*>(nlmsg_data(header));
}

// The kernel's own explanation of an error, where it gave one.
std::string explanation(const nlmsghdr* header) {
    if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) {
        return {};
    }
    // With NETLINK_CAP_ACK the failed request is not echoed beyond its header.
    size_t offset = sizeof(nlmsgerr);
    if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) {
        offset += outcome_of(header).msg.nlmsg_len - sizeof(nlmsghdr);
    }
    const auto payload = static_cast<size_t>(nlmsg_datalen(header));
    if (offset >= payload) {
        return {};
    }
    auto* first = reinterpret_cast<nlattr*>(static_cast<uint8_t*>(nlmsg_data(header)) + offset);
    const nlattr* text = nla_find(first, static_cast<int>(payload - offset), NLMSGERR_ATTR_MSG);
    return text == nullptr ? std::string{} : std::string(nla_get_string(text));
}

Unexpected refused(const Message& request, const nlmsghdr* header) {
    const int err = -outcome_of(header).error;
    const std::string why = explanation(header);
    return fail_errno(why.empty() ? request.what() : request.what() + ": " + why, err);
}

} // namespace

Result<Socket> Socket::open() {
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!fd) {
        return fail_errno("rtnetlink socket");
    }
    const int one = 1;
    for (int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK}) {
        if (setsockopt(fd.get(), SOL_NETLINK, option, &one, sizeof one) != 0) {
            return fail_errno("option of an rtnetlink socket");
        }
    }
    return Socket(std::move(fd));
}

Result<Socket> Socket::open_in(int netns_fd) {
    TRY_ASSIGN(const NetnsScope scope, NetnsScope::enter(netns_fd));
    return open();
}

Result<size_t> Socket::receive() {
    buffer_.resize(kReceiveBuffer);
    while (true) {
        const ssize_t n = recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
        if (n >= 0) {
            return static_cast<size_t>(n);
        }
        if (errno != EINTR) {
            return fail_errno("answer of rtnetlink");
        }
    }
}

Result<void> Socket::exchange(std::span<Message> requests, const Answer& answer) {
    std::array<iovec, kBatch> parts{};
    const uint32_t first = sequence_;
    for (size_t i = 0; i < requests.size(); ++i) {
        nlmsghdr* header = requests[i].header();
        header->nlmsg_seq = sequence_++;
        parts[i] = {header, header->nlmsg_len};
    }
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    msghdr message{};
    message.msg_name = &kernel;
    message.msg_namelen = sizeof kernel;
    message.msg_iov = parts.data();
    message.msg_iovlen = requests.size();
    while (sendmsg(fd_.get(), &message, 0) < 0) {
        if (errno != EINTR) {
            return fail_errno(requests.front().what());
        }
    }
    Result<void> outcome;
    size_t open = requests.size();
    while (open > 0) {
        TRY_ASSIGN(size_t size, receive());
        for_each_message({buffer_.data(), size}, [&](const nlmsghdr* header) {
            const uint32_t index = header->nlmsg_seq - first;
            if (index >= requests.size()) {
                return; // late answer of an exchange that had failed
            }
            if (header->nlmsg_type != NLMSG_ERROR) {
                if (answer) {
                    answer(header);
                }
                return;
            }
            --open;
            const int err = -outcome_of(header).error;
            if (err != 0 && outcome && !requests[index].tolerates(err)) {
                outcome = refused(requests[index], header);
            }
        });
    }
    return outcome;
}

Result<void> Socket::send(std::span<Message> requests, const Answer& answer) {
    Result<void> outcome;
    while (!requests.empty()) {
        const size_t count = std::min(requests.size(), kBatch);
        auto part = exchange(requests.first(count), answer);
        if (!part && outcome) {
            outcome = std::move(part);
        }
        requests = requests.subspan(count);
    }
    return outcome;
}

Result<void> Socket::send(Message request, const Answer& answer) {
    return send(std::span(&request, 1), answer);
}

Result<void> Socket::dump(Message request, const Answer& answer) {
    nlmsghdr* asked = request.header();
    asked->nlmsg_flags |= NLM_F_DUMP;
    asked->nlmsg_flags &= static_cast<uint16_t>(~NLM_F_ACK);
    asked->nlmsg_seq = sequence_++;
    if (::send(fd_.get(), asked, asked->nlmsg_len, 0) < 0) {
        return fail_errno(request.what());
    }
    bool done = false;
    Result<void> outcome;
    while (!done) {
        TRY_ASSIGN(size_t size, receive());
        for_each_message({buffer_.data(), size}, [&](const nlmsghdr* header) {
            if (header->nlmsg_seq != asked->nlmsg_seq) {
                return;
            }
            if (header->nlmsg_type == NLMSG_DONE) {
                done = true;
            } else if (header->nlmsg_type == NLMSG_ERROR) {
                done = true;
                outcome = refused(request, header);
            } else {
                answer(header);
            }
        });
    }
    return outcome;
}

} // namespace manx::netlink
