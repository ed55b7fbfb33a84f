// SPDX-License-Identifier: Apache-2.0
#include "agent/datastore/sqlite_watcher.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>
#include <utility>

namespace manx::datastore {

namespace {

using namespace std::chrono_literals;

// An announcement may be lost with the process that was to make it: look now and then.
constexpr auto kSlowPoll = 1000ms;
constexpr auto kFirstRetry = 50ms;
constexpr auto kLastRetry = 2000ms;

} // namespace

struct SqliteWatcher::State {
    api::Kind kind{};
    std::string column;
    WatchHandler handler;
    // Held while a callback runs; recursive, so that a callback may end its own watch.
    std::recursive_mutex mutex;
    bool closed = false;
    bool listed = false; // the thread's own

    template <typename Fn>
    void call(Fn fn) {
        std::lock_guard lock(mutex);
        if (!closed) {
            fn(handler);
        }
    }
};

namespace {

class SqliteWatch : public Watch {
public:
    explicit SqliteWatch(std::shared_ptr<SqliteWatcher::State> state) : state_(std::move(state)) {}

    SqliteWatch(const SqliteWatch&) = delete;
    SqliteWatch& operator=(const SqliteWatch&) = delete;

    ~SqliteWatch() override {
        std::lock_guard lock(state_->mutex);
        state_->closed = true;
    }

private:
    std::shared_ptr<SqliteWatcher::State> state_;
};

} // namespace

SqliteWatcher::SqliteWatcher(std::string path) : path_(std::move(path)) {
}

Result<std::unique_ptr<SqliteWatcher>> SqliteWatcher::create(std::string path) {
    std::unique_ptr<SqliteWatcher> watcher(new SqliteWatcher(std::move(path)));
    watcher->wake_.reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!watcher->wake_) {
        return fail_errno("eventfd");
    }
    watcher->thread_ = std::thread([raw = watcher.get()] { raw->run(); });
    return watcher;
}

SqliteWatcher::~SqliteWatcher() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    (void)eventfd_write(wake_.get(), 1); // cannot fail: the counter is far from full
    thread_.join();
}

std::unique_ptr<Watch> SqliteWatcher::add(api::Kind kind, WatchHandler handler) {
    auto state = std::make_shared<State>();
    state->kind = kind;
    state->column = kind_column(kind);
    state->handler = std::move(handler);
    {
        std::lock_guard lock(mutex_);
        new_.push_back(state);
    }
    (void)eventfd_write(wake_.get(), 1);
    return std::make_unique<SqliteWatch>(std::move(state));
}

void SqliteWatcher::when_delivered(std::function<void()> fn) {
    {
        std::lock_guard lock(mutex_);
        new_marks_.push_back(std::move(fn));
    }
    (void)eventfd_write(wake_.get(), 1);
}

void SqliteWatcher::run() {
    pthread_setname_np(pthread_self(), "watches");
    std::chrono::milliseconds next_look = kSlowPoll;
    std::chrono::milliseconds retry = kFirstRetry;
    while (wait(next_look)) {
        take_new();
        auto served = serve();
        if (served) {
            retry = kFirstRetry;
            next_look = kSlowPoll;
            for (const auto& fn : std::exchange(marks_, {})) {
                fn();
            }
            continue;
        }
        tables_.reset();
        listener_.reset();
        relist_all();
        for (const auto& watch : watches_) {
            watch->call([&](const WatchHandler& handler) {
                if (handler.lost) {
                    handler.lost(served.error());
                }
            });
        }
        next_look = retry;
        retry = std::min(retry * 2, kLastRetry);
    }
}

bool SqliteWatcher::wait(std::chrono::milliseconds at_most) {
    std::array<pollfd, 2> fds{pollfd{wake_.get(), POLLIN, 0},
                              pollfd{listener_ ? listener_->fd() : -1, POLLIN, 0}};
    (void)::poll(fds.data(), fds.size(), static_cast<int>(at_most.count())); // EINTR: look early
    eventfd_t count = 0;
    (void)eventfd_read(wake_.get(), &count); // empty when the listener woke us
    if (listener_) {
        listener_->drain();
    }
    std::lock_guard lock(mutex_);
    return !stopping_;
}

void SqliteWatcher::take_new() {
    std::lock_guard lock(mutex_);
    std::ranges::move(new_, std::back_inserter(watches_));
    new_.clear();
    // Before the look: it finds all that was written until now.
    std::ranges::move(new_marks_, std::back_inserter(marks_));
    new_marks_.clear();
    std::erase_if(watches_, [](const auto& watch) {
        std::lock_guard watch_lock(watch->mutex);
        return watch->closed;
    });
}

void SqliteWatcher::relist_all() {
    for (const auto& watch : watches_) {
        watch->listed = false;
    }
}

Result<void> SqliteWatcher::serve() {
    if (watches_.empty()) {
        return {};
    }
    if (tables_ && !tables_->is_current(path_)) {
        return fail(ErrorKind::Unavailable, "datastore: " + path_ + " was replaced");
    }
    if (!listener_) { // before the first look, so that nothing falls between
        TRY_ASSIGN(listener_, Listener::open(path_ + "-notify"));
    }
    if (!tables_) {
        TRY_ASSIGN(tables_, Tables::open(path_));
        relist_all();
    }
    TRY_ASSIGN(auto transaction, Transaction::start(tables_->database, "BEGIN"));
    TRY_ASSIGN(Head head, tables_->read_head());
    if (head.revision < position_ || position_ < head.compacted) {
        relist_all();
    }
    if (head.revision != position_ &&
        std::ranges::any_of(watches_, [](const auto& watch) { return watch->listed; })) {
        TRY(deliver_changes());
    }
    bool listed = false;
    for (const auto& watch : watches_) {
        if (!watch->listed) {
            TRY(deliver_list(*watch));
            listed = true;
        }
    }
    position_ = head.revision;
    TRY(transaction.commit());
    if (listed) {
        tables_->database.release_memory(); // a list has read everything, a change reads little
    }
    return {};
}

Result<void> SqliteWatcher::deliver_changes() {
    Statement& living = tables_->changed;
    Statement& dead = tables_->died;
    StatementScope living_scope(living);
    StatementScope dead_scope(dead);
    living.bind(1, position_);
    dead.bind(1, position_);
    TRY_ASSIGN(bool more_living, living.step());
    TRY_ASSIGN(bool more_dead, dead.step());
    while (more_living || more_dead) {
        bool take_dead = more_dead && (!more_living || dead.number(kColumnRevision) <
                                                           living.number(kColumnRevision));
        hand_out(take_dead ? dead : living, take_dead);
        TRY_ASSIGN((take_dead ? more_dead : more_living), (take_dead ? dead : living).step());
    }
    return {};
}

void SqliteWatcher::hand_out(const Statement& row, bool dead) {
    bool is_new = row.number(kColumnCreated) > position_;
    if (dead && is_new) {
        return; // came and went between two looks: nobody has heard of it
    }
    EventType type = dead ? EventType::Deleted : is_new ? EventType::Added : EventType::Modified;
    for (const auto& watch : watches_) {
        if (watch->listed && row.text(kColumnKind) == watch->column) {
            watch->call([&](const WatchHandler& handler) {
                if (handler.event) {
                    handler.event({type, object_of(row, watch->kind)});
                }
            });
        }
    }
}

Result<void> SqliteWatcher::deliver_list(State& watch) {
    watch.call([](const WatchHandler& handler) {
        if (handler.relist) {
            handler.relist();
        }
    });
    Statement& list = tables_->list;
    StatementScope scope(list);
    list.bind(1, watch.column).bind(2, std::string_view(""));
    for (;;) {
        TRY_ASSIGN(bool row, list.step());
        if (!row) {
            break;
        }
        watch.call([&](const WatchHandler& handler) {
            if (handler.event) {
                handler.event({EventType::Added, object_of(list, watch.kind)});
            }
        });
    }
    watch.listed = true;
    watch.call([](const WatchHandler& handler) {
        if (handler.synced) {
            handler.synced();
        }
    });
    return {};
}

} // namespace manx::datastore
