// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/netns.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sched.h>

namespace manx::netlink {

namespace {

constexpr const char* kOwnNetns = "/proc/thread-self/ns/net";

} // namespace

Result<UniqueFd> open_netns(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        const int err = errno;
        if (err == ENOENT || err == ENOTDIR) {
            return fail(ErrorKind::NotFound, "network namespace " + path, err);
        }
        return fail_errno("network namespace " + path, err);
    }
    // The bind mount of a namespace that was removed leaves a plain file behind.
    struct statfs fs{};
    if (fstatfs(fd.get(), &fs) != 0) {
        return fail_errno("network namespace " + path);
    }
    if (fs.f_type != NSFS_MAGIC) {
        return fail(ErrorKind::NotFound, path + " is not a network namespace");
    }
    return fd;
}

bool is_netns(int fd) {
    struct statfs fs{};
    return fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

Result<NetnsId> netns_id(int netns_fd) {
    struct stat st{};
    if (fstat(netns_fd, &st) != 0) {
        return fail_errno("identity of a network namespace");
    }
    return NetnsId{st.st_dev, st.st_ino};
}

Result<NetnsId> current_netns_id() {
    TRY_ASSIGN(UniqueFd fd, open_netns(kOwnNetns));
    return netns_id(fd.get());
}

Result<NetnsScope> NetnsScope::enter(int netns_fd) {
    UniqueFd home(::open(kOwnNetns, O_RDONLY | O_CLOEXEC));
    if (!home) {
        return fail_errno("own network namespace");
    }
    if (setns(netns_fd, CLONE_NEWNET) != 0) {
        return fail_errno("enter a network namespace");
    }
    return NetnsScope(std::move(home));
}

NetnsScope::~NetnsScope() {
    if (home_ && setns(home_.get(), CLONE_NEWNET) != 0) {
        std::abort();
    }
}

} // namespace manx::netlink
