// SPDX-License-Identifier: Apache-2.0
#include "loader/expedite.h"

#include "base/log.h"
#include "base/unique_fd.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <unistd.h>

namespace manx::loader {

namespace {

constexpr const char* kSetting = "/sys/kernel/rcu_expedited";

struct Shared {
    std::mutex mutex;
    int holders = 0;
    std::string note;
    UniqueFd setting; // none: nothing to put back
};

Shared& shared() {
    static Shared one;
    return one;
}

// Held by one process at a time: two that put back what they found would leave it on. No fd: not
// there, not writable (a read-only /sys), or in another's hand.
UniqueFd take_setting() {
    UniqueFd fd(open(kSetting, O_RDWR | O_CLOEXEC));
    if (fd && flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        fd.reset();
    }
    return fd;
}

bool is_on(int fd) {
    char value = 0;
    return pread(fd, &value, 1, 0) != 1 || value != '0';
}

bool set(int fd, const char* value) {
    return pwrite(fd, value, 1, 0) == 1;
}

void put_back(int fd, const std::string& note) {
    if (!set(fd, "0")) {
        log::get("loader")->error("{} stays on reason=\"{}\"", kSetting, std::strerror(errno));
        return; // and the note with it
    }
    (void)rmdir(note.c_str());
}

} // namespace

Expedite::Expedite() {
    Shared& all = shared();
    const std::lock_guard lock(all.mutex);
    if (all.holders++ > 0 || all.note.empty()) {
        return;
    }
    all.setting = take_setting();
    // The note first: between the two a kill leaves a note without need, which does no harm.
    if (all.setting &&
        (is_on(all.setting.get()) || (mkdir(all.note.c_str(), 0700) != 0 && errno != EEXIST) ||
         !set(all.setting.get(), "1"))) {
        all.setting.reset();
    }
}

Expedite::~Expedite() {
    Shared& all = shared();
    const std::lock_guard lock(all.mutex);
    if (--all.holders == 0 && all.setting) {
        put_back(all.setting.get(), all.note);
        all.setting.reset();
    }
}

void Expedite::begin(const std::string& note) {
    Shared& all = shared();
    const std::lock_guard lock(all.mutex);
    if (all.holders > 0) {
        return;
    }
    all.note = note;
    if (access(note.c_str(), F_OK) != 0) {
        return;
    }
    if (const UniqueFd fd = take_setting()) {
        put_back(fd.get(), note);
    }
}

} // namespace manx::loader
