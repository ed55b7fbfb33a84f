// SPDX-License-Identifier: Apache-2.0
// Loads every program on the running kernel and prints what the verifier walked. As process 1 of a
// virtual machine (tests/kernels/run) it sets up what it needs and powers off at the end.
#include "loader/loader.h"
#include "loader/probe.h"

#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <linux/reboot.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

namespace {

using namespace manx;

constexpr uint32_t kInstructionBudget = 100000;

int load_all(const std::string& bpffs) {
    utsname system{};
    (void)uname(&system);
    std::printf("load_all: kernel %s\n", system.release);
    const Result<loader::Probe> found = loader::probe();
    if (!found) {
        std::printf("load_all: failed: %s\n", found.error().text().c_str());
        return EXIT_FAILURE;
    }
    for (const loader::Feature& feature : found->features) {
        std::printf("load_all: %-40s %s\n", feature.name.c_str(), feature.present ? "yes" : "no");
    }
    loader::LoadOptions options;
    options.sizes.flows4 = 1024;
    options.sizes.flows6 = 1024;
    options.sizes.new_flows4 = 1024;
    options.sizes.new_flows6 = 1024;
    options.sizes.ports = 1024;
    options.sizes.rules = 64;
    Result<loader::Loader> loaded = loader::Loader::open(bpffs, options);
    if (!loaded) {
        std::printf("load_all: failed: %s\n", loaded.error().text().c_str());
        return EXIT_FAILURE;
    }
    int status = EXIT_SUCCESS;
    for (const loader::ProgramInfo& program : loaded->programs()) {
        std::printf("load_all: %-20s %6u instructions verified, %6u bytes\n", program.name.c_str(),
                    program.verified_instructions, program.translated_bytes);
        if (program.verified_instructions > kInstructionBudget) {
            std::printf("load_all: failed: above the budget of %u\n", kInstructionBudget);
            status = EXIT_FAILURE;
        }
    }
    std::printf("load_all: attaches by %s\n", loaded->uses_tcx() ? "tcx" : "clsact");
    if (!loaded->remove_all()) {
        status = EXIT_FAILURE;
    }
    std::printf("load_all: %s\n", status == EXIT_SUCCESS ? "ok" : "failed");
    return status;
}

// In an initramfs there is nothing yet.
void set_up_machine() {
    for (const char* folder : {"/proc", "/sys"}) {
        (void)mkdir(folder, 0755);
    }
    (void)mount("proc", "/proc", "proc", 0, nullptr);
    (void)mount("sysfs", "/sys", "sysfs", 0, nullptr);
    (void)mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr);
}

} // namespace

int main(int argc, char** argv) {
    const bool is_init = getpid() == 1;
    if (is_init) {
        set_up_machine();
    }
    const int status = load_all(argc > 1 && !is_init ? argv[1] : "/sys/fs/bpf/manx_load_all");
    std::fflush(stdout);
    if (is_init) {
        sync();
        (void)reboot(LINUX_REBOOT_CMD_POWER_OFF);
    }
    return status;
}
