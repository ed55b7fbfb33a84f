// SPDX-License-Identifier: Apache-2.0
// A synchronous rtnetlink socket. Several requests travel in one system call and are answered in
// order: what a pod's device needs is two or three calls. A socket belongs to the network
// namespace in which it was opened, whatever the thread's namespace is later.
//
// Threading: one thread at a time.
#pragma once

#include "agent/netlink/message.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace manx::netlink {

class Socket {
public:
    // Called with each message that answers a request (RTM_NEWLINK for a get, ...).
    using Answer = std::function<void(const nlmsghdr*)>;

    // In the calling thread's network namespace.
    static Result<Socket> open();
    // In the namespace that netns_fd names; the thread is back in its own when this returns.
    static Result<Socket> open_in(int netns_fd);

    // Sends all of them, waits for all acknowledgements. The kernel goes on after a failed one;
    // the first error that its request does not tolerate is returned. Error: System with errno,
    // "what: the kernel's own words".
    Result<void> send(std::span<Message> requests, const Answer& answer = {});
    Result<void> send(Message request, const Answer& answer = {});
    // A request with NLM_F_DUMP: answer is called once for each object.
    Result<void> dump(Message request, const Answer& answer);

    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    explicit Socket(UniqueFd fd) : fd_(std::move(fd)) {}

    Result<void> exchange(std::span<Message> requests, const Answer& answer);
    Result<size_t> receive();

    UniqueFd fd_;
    uint32_t sequence_ = 1;
    std::vector<uint8_t> buffer_;
};

} // namespace manx::netlink
