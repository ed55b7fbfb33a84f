// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/sysctl.h"

#include "base/unique_fd.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace manx::netlink {

namespace {

std::string full_path(std::string_view path) {
    return "/proc/sys/" + std::string(path);
}

Result<UniqueFd> open_setting(const std::string& path, int flags) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!fd) {
        const int err = errno;
        return fail(err == ENOENT ? ErrorKind::NotFound : ErrorKind::System, path, err);
    }
    return fd;
}

Result<std::string> read_value(int fd, const std::string& path) {
    std::array<char, 256> text{};
    const ssize_t n = pread(fd, text.data(), text.size(), 0);
    if (n < 0) {
        return fail_errno(path);
    }
    std::string value(text.data(), static_cast<size_t>(n));
    while (!value.empty() && (value.back() == '\n' || value.back() == ' ')) {
        value.pop_back();
    }
    return value;
}

} // namespace

Result<std::string> read_sysctl(std::string_view path) {
    const std::string full = full_path(path);
    TRY_ASSIGN(UniqueFd fd, open_setting(full, O_RDONLY));
    return read_value(fd.get(), full);
}

Result<void> write_sysctl(std::string_view path, std::string_view value) {
    const std::string full = full_path(path);
    TRY_ASSIGN(UniqueFd fd, open_setting(full, O_RDWR));
    TRY_ASSIGN(std::string old, read_value(fd.get(), full));
    if (old == value) {
        return {};
    }
    if (pwrite(fd.get(), value.data(), value.size(), 0) < 0) {
        return fail_errno(full + " = " + std::string(value));
    }
    return {};
}

} // namespace manx::netlink
