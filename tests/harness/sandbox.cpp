// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/sandbox.h"

#include <net/if.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sched.h>
#include <stdexcept>

namespace manx::harness {

Result<void> enter_sandbox() {
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
        return fail(ErrorKind::ConfigReality, "make namespaces: run the test as root", errno);
    }
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
        return fail_errno("make mounts private");
    }
    // The mounted sysfs shows the old network namespace.
    if (mount("sysfs", "/sys", "sysfs", 0, nullptr) < 0) {
        return fail_errno("mount /sys");
    }
    if (mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) < 0) {
        return fail_errno("mount a bpffs");
    }
    std::error_code error;
    std::filesystem::create_directories("/run/netns", error);
    if (mount("tmpfs", "/run/netns", "tmpfs", 0, nullptr) < 0) {
        return fail_errno("mount /run/netns");
    }
    TRY(run("ip link set lo up"));
    return {};
}

Result<std::string> run(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen((command + " 2>&1").c_str(), "re"),
                                                     [](FILE*) { return 0; });
    if (!pipe) {
        return fail_errno("run " + command);
    }
    std::string output;
    std::array<char, 4096> buffer{};
    size_t got = 0;
    while ((got = fread(buffer.data(), 1, buffer.size(), pipe.get())) > 0) {
        output.append(buffer.data(), got);
    }
    const int status = pclose(pipe.get());
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return fail(ErrorKind::System, command + ": " + output);
    }
    return output;
}

std::string must_run(const std::string& command) {
    Result<std::string> output = run(command);
    if (!output) {
        throw std::runtime_error(output.error().text());
    }
    return *output;
}

uint32_t ifindex_of(const std::string& name) {
    return if_nametoindex(name.c_str());
}

} // namespace manx::harness
