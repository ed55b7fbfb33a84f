// SPDX-License-Identifier: Apache-2.0
// Network namespaces: open one by path, and visit it with the calling thread.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <string>

namespace manx::netlink {

// Error: NotFound when the path does not exist or is no namespace any more, else System.
Result<UniqueFd> open_netns(const std::string& path);

// Whether the descriptor is a namespace's, not the plain file that is left of a mount point.
bool is_netns(int fd);

// Which namespace it is, for comparison: device and inode of the namespace.
struct NetnsId {
    uint64_t device = 0;
    uint64_t inode = 0;
    auto operator<=>(const NetnsId&) const = default;
};

Result<NetnsId> netns_id(int netns_fd);
Result<NetnsId> current_netns_id();

// While it lives, the calling thread is in another network namespace: sockets opened and
// /proc/sys/net paths used in between belong to that one. Keep it short and on one thread. A
// thread that cannot return home would act on the wrong node's devices, so that aborts.
class NetnsScope {
public:
    static Result<NetnsScope> enter(int netns_fd);
    NetnsScope(NetnsScope&&) noexcept = default;
    NetnsScope& operator=(NetnsScope&&) = delete;
    NetnsScope(const NetnsScope&) = delete;
    NetnsScope& operator=(const NetnsScope&) = delete;
    ~NetnsScope();

private:
    explicit NetnsScope(UniqueFd home) : home_(std::move(home)) {}

    UniqueFd home_;
};

} // namespace manx::netlink
