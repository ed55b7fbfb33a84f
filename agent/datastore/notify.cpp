// SPDX-License-Identifier: Apache-2.0
#include "agent/datastore/notify.h"

#include <sys/inotify.h>

#include <array>
#include <fcntl.h>
#include <unistd.h>

namespace manx::datastore {

Result<Announcer> Announcer::open(const std::string& path) {
    Announcer announcer;
    announcer.file_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!announcer.file_) {
        return fail_errno("datastore: open " + path);
    }
    return announcer;
}

void Announcer::announce() const {
    (void)!::pwrite(file_.get(), "", 1, 0); // a full disk only costs the listener's latency
}

Result<Listener> Listener::open(const std::string& path) {
    TRY(Announcer::open(path)); // inotify wants the file to exist
    Listener listener;
    listener.inotify_.reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!listener.inotify_ ||
        inotify_add_watch(listener.inotify_.get(), path.c_str(), IN_MODIFY) < 0) {
        return fail_errno("datastore: watch " + path);
    }
    return listener;
}

void Listener::drain() const {
    std::array<char, 4096> buffer{};
    while (::read(inotify_.get(), buffer.data(), buffer.size()) > 0) {
    }
}

} // namespace manx::datastore
