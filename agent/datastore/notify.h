// SPDX-License-Identifier: Apache-2.0
// How one process learns that another one has committed: each commit writes one byte into a file
// of its own beside the datastore, after the commit is visible; readers wait with inotify.
// (SQLite's own files would not do: the write-ahead log is written before the commit is visible,
// and the shared index is memory, which inotify does not see.)
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <string>

namespace manx::datastore {

class Announcer {
public:
    static Result<Announcer> open(const std::string& path);
    void announce() const; // a lost one is made good by the listener's slow poll

private:
    UniqueFd file_;
};

class Listener {
public:
    static Result<Listener> open(const std::string& path);

    // Readable when something was announced since the last drain().
    [[nodiscard]] int fd() const { return inotify_.get(); }

    void drain() const;

private:
    UniqueFd inotify_;
};

} // namespace manx::datastore
