// SPDX-License-Identifier: Apache-2.0
#include "loader/pin.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdio>
#include <unistd.h>

namespace manx::loader {

Result<void> replace_pin(int fd, const std::string& path) {
    // bpffs refuses names with a dot.
    const std::string fresh = path + "_next";
    (void)unlink(fresh.c_str()); // of a process that was killed right here
    if (bpf_obj_pin(fd, fresh.c_str()) < 0) {
        return fail_errno("pin " + fresh);
    }
    if (rename(fresh.c_str(), path.c_str()) < 0) {
        return fail_errno("rename pin to " + path);
    }
    return {};
}

Result<bool> remove_pin(const std::string& path) {
    if (unlink(path.c_str()) == 0) {
        return true;
    }
    if (errno == ENOENT) {
        return false;
    }
    return fail_errno("remove pin " + path);
}

} // namespace manx::loader
