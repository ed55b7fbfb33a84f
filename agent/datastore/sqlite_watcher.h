// SPDX-License-Identifier: Apache-2.0
// The thread that serves all watches of one SQLite store.
//
// It keeps one position (revision) for all watches. When something was announced it reads, in one
// read transaction, what changed since, and hands it out in the order of revisions; a new watch
// gets its list in the same transaction. Where the tombstones since the position were dropped,
// where the file was replaced, or after an error, all watches are listed again.
#pragma once

#include "agent/datastore/notify.h"
#include "agent/datastore/sqlite_tables.h"
#include "agent/datastore/store.h"

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace manx::datastore {

class SqliteWatcher {
public:
    static Result<std::unique_ptr<SqliteWatcher>> create(std::string path);
    SqliteWatcher(const SqliteWatcher&) = delete;
    SqliteWatcher& operator=(const SqliteWatcher&) = delete;
    ~SqliteWatcher();

    std::unique_ptr<Watch> add(api::Kind kind, WatchHandler handler);
    void when_delivered(std::function<void()> fn);

    struct State; // of one watch, shared by the thread and the caller's Watch

private:
    explicit SqliteWatcher(std::string path);
    void run();
    bool wait(std::chrono::milliseconds at_most); // false: stop
    void take_new();
    Result<void> serve();
    Result<void> deliver_changes();
    Result<void> deliver_list(State& watch);
    void hand_out(const Statement& row, bool dead);
    void relist_all();

    std::string path_;
    UniqueFd wake_;
    std::mutex mutex_; // of the three below
    std::vector<std::shared_ptr<State>> new_;
    std::vector<std::function<void()>> new_marks_;
    bool stopping_ = false;

    // The thread's own.
    std::vector<std::shared_ptr<State>> watches_;
    std::vector<std::function<void()>> marks_; // called when the next look is delivered
    std::optional<Tables> tables_;
    std::optional<Listener> listener_;
    int64_t position_ = 0;
    std::thread thread_;
};

} // namespace manx::datastore
