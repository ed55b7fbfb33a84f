// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include "base/unique_fd.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

namespace manx {

namespace {

Result<void> write_file(const std::string& path, std::string_view text, Durable durable) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) {
        return fail_errno("open " + path);
    }
    while (!text.empty()) {
        const ssize_t n = ::write(fd.get(), text.data(), text.size());
        if (n <= 0) {
            return fail_errno("write " + path, n < 0 ? errno : ENOSPC);
        }
        text.remove_prefix(static_cast<size_t>(n));
    }
    if (durable == Durable::Yes && fsync(fd.get()) != 0) {
        return fail_errno("sync " + path);
    }
    return {};
}

} // namespace

Result<std::string> read_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        return fail_errno("open " + path);
    }
    std::string text;
    std::array<char, 16384> chunk{};
    for (;;) {
        const ssize_t n = ::read(fd.get(), chunk.data(), chunk.size());
        if (n < 0) {
            return fail_errno("read " + path);
        }
        if (n == 0) {
            return text;
        }
        text.append(chunk.data(), static_cast<size_t>(n));
    }
}

Result<void> replace_file(const std::string& path, std::string_view text, Durable durable) {
    const std::string fresh = path + ".new";
    if (auto written = write_file(fresh, text, durable); !written) {
        unlink(fresh.c_str());
        return written;
    }
    if (rename(fresh.c_str(), path.c_str()) != 0) {
        return fail_errno("rename to " + path);
    }
    return {};
}

Result<void> sync_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || fsync(fd.get()) != 0) {
        return fail_errno("sync " + path);
    }
    return {};
}

} // namespace manx
