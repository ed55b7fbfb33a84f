// SPDX-License-Identifier: Apache-2.0
#include "agent/datastore/sqlite_store.h"

#include "agent/api/meta.h"
#include "agent/datastore/notify.h"
#include "agent/datastore/object.h"
#include "agent/datastore/sqlite_tables.h"
#include "agent/datastore/sqlite_watcher.h"
#include "base/worker.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace manx::datastore {

namespace {

using nlohmann::json;

// Moves a long log into the file beside the calls, of which one would else wait for the disk, some
// milliseconds, every few dozens. On a connection of its own: it is open for the moment only, so
// that a file that was replaced in the meantime does not matter.
class Checkpointer {
public:
    Checkpointer(const std::string& path, int long_log) : path_(path), long_log_(long_log) {}

    // After each commit, by one thread at a time.
    void look_at(Database& database) {
        if (database.log_pages() < long_log_) {
            return;
        }
        if (database.log_pages() >= 4 * long_log_) {
            const std::lock_guard lock(at_work_); // who writes without a pause waits after all
            database.checkpoint();
        } else if (!busy_.exchange(true)) {
            if (!worker_) {
                worker_ = std::make_unique<Worker>("checkpoints");
            }
            worker_->post([this] {
                work();
                busy_ = false;
            });
        }
    }

private:
    void work() {
        constexpr int kAttempts = 10;
        auto own = Database::open(path_);
        if (!own) {
            return; // the callers find out, and say so
        }
        const std::lock_guard lock(at_work_);
        own->checkpoint(); // nearly all, which takes long
        for (int i = 0; i < kAttempts && !own->finish_checkpoint(); i++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    const std::string& path_;
    int long_log_;                   // pages
    std::atomic<bool> busy_ = false; // the worker has been asked
    std::mutex at_work_;
    std::unique_ptr<Worker> worker_; // from the first long log on
};

// A connection that several threads take in turn. A file that went away, or that was replaced, is
// opened again at the next call.
class Connection {
public:
    Connection(const std::string& path, const SqliteOptions& options)
        : path_(path), checkpointer_(path, options.log_pages) {}

    template <typename Fn>
    auto with(Fn fn) -> decltype(fn(std::declval<Tables&>())) {
        std::lock_guard lock(mutex_);
        if (!tables_ || !tables_->is_current(path_)) {
            tables_.reset();
            TRY_ASSIGN(tables_, Tables::open(path_));
            tables_->database.checkpoint_by_hand();
            TRY_ASSIGN(announcer_, Announcer::open(path_ + "-notify"));
        }
        return fn(*tables_);
    }

    // As with(), and then tells the watches of all processes.
    template <typename Fn>
    auto write(Fn fn) -> decltype(fn(std::declval<Tables&>())) {
        auto result = with(std::move(fn));
        if (result) {
            std::lock_guard lock(mutex_);
            announcer_.announce();
            if (tables_) {
                checkpointer_.look_at(tables_->database);
            }
        }
        return result;
    }

private:
    const std::string& path_;
    std::mutex mutex_;
    std::optional<Tables> tables_;
    Announcer announcer_;
    Checkpointer checkpointer_;
};

class SqliteStore : public Store {
public:
    SqliteStore(std::string path, const SqliteOptions& options)
        : path_(std::move(path)), options_(options), reader_(path_, options),
          writer_(path_, options) {}

    Result<void> start();
    Result<Object> get(const Key& key) override;
    Result<ListResult> list(api::Kind kind, const ListOptions& options) override;
    Result<Object> create(const Key& key, const json& object) override;
    Result<Object> update(const Key& key, const json& object) override;
    Result<Object> patch(const Key& key, const json& merge_patch,
                         const Precondition& precondition) override;
    Result<void> remove(const Key& key, const Precondition& precondition) override;
    Result<std::unique_ptr<Watch>> watch(api::Kind kind, WatchHandler handler) override;
    void when_delivered(std::function<void()> fn) override;

private:
    Result<Object> replace(Tables& tables, const Key& key, json object,
                           const Precondition& precondition);
    Result<void> forget_the_dead(Tables& tables, int64_t revision);

    std::string path_;
    SqliteOptions options_;
    Connection reader_;
    Connection writer_;
    std::mutex watcher_mutex_;
    std::unique_ptr<SqliteWatcher> watcher_; // from the first watch on
};

Unexpected not_found(const Key& key) {
    return fail(ErrorKind::NotFound, fmt::format("{}: not found", key.text()));
}

Result<Object> read(Tables& tables, const Key& key, std::string* created_at = nullptr) {
    std::string column = kind_column(key.kind);
    StatementScope scope(tables.get);
    tables.get.bind(1, column).bind(2, key.ns).bind(3, key.name);
    TRY_ASSIGN(bool row, tables.get.step());
    if (!row) {
        return not_found(key);
    }
    if (created_at != nullptr) {
        *created_at = tables.get.text(kColumnCreatedAt);
    }
    return object_of(tables.get, key.kind);
}

Result<void> check(const Object& stored, const Precondition& precondition) {
    if (!precondition.uid.empty() && precondition.uid != stored.uid) {
        return fail(ErrorKind::Conflict, fmt::format("{}: has uid {}, not {}", stored.key.text(),
                                                     stored.uid, precondition.uid));
    }
    if (!precondition.resource_version.empty() &&
        precondition.resource_version != stored.resource_version) {
        return fail(ErrorKind::Conflict,
                    fmt::format("{}: has resourceVersion {}, not {}: it was changed meanwhile",
                                stored.key.text(), stored.resource_version,
                                precondition.resource_version));
    }
    return {};
}

Result<int64_t> next_revision(Tables& tables) {
    StatementScope scope(tables.next);
    TRY_ASSIGN(bool row, tables.next.step());
    if (!row) {
        return fail(ErrorKind::Unavailable, "datastore: the file has no state");
    }
    int64_t revision = tables.next.number(0);
    TRY(tables.next.step()); // to its end, which makes the change
    return revision;
}

Result<void> SqliteStore::start() {
    return writer_.with([](Tables&) { return Result<void>(); });
}

Result<Object> SqliteStore::get(const Key& key) {
    return reader_.with([&](Tables& tables) { return read(tables, key); });
}

Result<ListResult> SqliteStore::list(api::Kind kind, const ListOptions& options) {
    return reader_.with([&](Tables& tables) -> Result<ListResult> {
        ListResult result;
        TRY_ASSIGN(auto transaction, Transaction::start(tables.database, "BEGIN"));
        TRY_ASSIGN(Head head, tables.read_head());
        result.resource_version = std::to_string(head.revision);
        std::string column = kind_column(kind);
        StatementScope scope(tables.list);
        tables.list.bind(1, column).bind(2, options.ns);
        for (;;) {
            TRY_ASSIGN(bool row, tables.list.step());
            if (!row) {
                return result;
            }
            if (options.labels.empty() ||
                has_labels(tables.list.text(kColumnJson), options.labels)) {
                result.objects.push_back(object_of(tables.list, kind));
            }
        }
    });
}

Result<Object> SqliteStore::create(const Key& key, const json& object) {
    TRY_ASSIGN(json complete, with_identity(key, object));
    return writer_.write([&](Tables& tables) -> Result<Object> {
        TRY_ASSIGN(auto transaction, Transaction::start(tables.database, "BEGIN IMMEDIATE"));
        auto existing = read(tables, key);
        if (existing) {
            return fail(ErrorKind::AlreadyExists, fmt::format("{}: already exists", key.text()));
        }
        if (existing.error().kind != ErrorKind::NotFound) {
            return existing;
        }
        TRY_ASSIGN(int64_t revision, next_revision(tables));
        Object stored{key, {}, std::to_string(revision), random_uid()};
        std::string now = now_text();
        stamp(complete, stored.uid, now, stored.resource_version);
        stored.json = text_of(complete);
        std::string column = kind_column(key.kind);
        tables.insert.bind(1, column).bind(2, key.ns).bind(3, key.name).bind(4, revision);
        TRY(tables.insert.bind(5, stored.uid).bind(6, now).bind(7, stored.json).run());
        TRY(transaction.commit());
        return stored;
    });
}

// Inside the caller's write transaction, which it commits.
Result<Object> SqliteStore::replace(Tables& tables, const Key& key, json object,
                                    const Precondition& precondition) {
    std::string created_at;
    TRY_ASSIGN(Object stored, read(tables, key, &created_at));
    TRY(check(stored, precondition));
    stamp(object, stored.uid, created_at, stored.resource_version);
    if (text_of(object) == stored.json) {
        return stored; // nothing new: no revision, no event, as with an API server
    }
    TRY_ASSIGN(int64_t revision, next_revision(tables));
    stored.resource_version = std::to_string(revision);
    stamp(object, stored.uid, created_at, stored.resource_version);
    stored.json = text_of(object);
    std::string column = kind_column(key.kind);
    tables.update.bind(1, column).bind(2, key.ns).bind(3, key.name);
    TRY(tables.update.bind(4, revision).bind(5, stored.json).run());
    return stored;
}

Result<Object> SqliteStore::update(const Key& key, const json& object) {
    TRY_ASSIGN(json complete, with_identity(key, object));
    return writer_.write([&](Tables& tables) -> Result<Object> {
        TRY_ASSIGN(auto transaction, Transaction::start(tables.database, "BEGIN IMMEDIATE"));
        TRY_ASSIGN(Object stored,
                   replace(tables, key, std::move(complete), precondition_of(object)));
        TRY(transaction.commit());
        return stored;
    });
}

Result<Object> SqliteStore::patch(const Key& key, const json& merge_patch,
                                  const Precondition& precondition) {
    return writer_.write([&](Tables& tables) -> Result<Object> {
        TRY_ASSIGN(auto transaction, Transaction::start(tables.database, "BEGIN IMMEDIATE"));
        TRY_ASSIGN(Object stored, read(tables, key));
        TRY(check(stored, precondition));
        TRY(check(stored, precondition_of(merge_patch)));
        auto object = api::parse_json(stored.json);
        if (!object) {
            return Unexpected(object.error().within(key.text()));
        }
        object->merge_patch(merge_patch);
        TRY_ASSIGN(json complete, with_identity(key, *object));
        TRY_ASSIGN(stored, replace(tables, key, std::move(complete), {}));
        TRY(transaction.commit());
        return stored;
    });
}

Result<void> SqliteStore::remove(const Key& key, const Precondition& precondition) {
    return writer_.write([&](Tables& tables) -> Result<void> {
        TRY_ASSIGN(auto transaction, Transaction::start(tables.database, "BEGIN IMMEDIATE"));
        std::string column = kind_column(key.kind);
        TRY_ASSIGN(Object stored, read(tables, key));
        TRY(check(stored, precondition));
        TRY_ASSIGN(int64_t revision, next_revision(tables));
        // The tombstone first: it takes the birth revision from the living row.
        tables.bury.bind(1, revision).bind(2, column).bind(3, key.ns).bind(4, key.name);
        TRY(tables.bury.run());
        TRY(tables.remove.bind(1, column).bind(2, key.ns).bind(3, key.name).run());
        TRY(forget_the_dead(tables, revision));
        return transaction.commit();
    });
}

// Old tombstones go now and then, a batch at a time.
Result<void> SqliteStore::forget_the_dead(Tables& tables, int64_t revision) {
    constexpr int64_t kEvery = 64;
    if (revision % kEvery != 0) {
        return {};
    }
    int64_t newest = 0;
    {
        StatementScope scope(tables.drop_dead);
        tables.drop_dead.bind(1, options_.tombstones);
        for (;;) {
            TRY_ASSIGN(bool row, tables.drop_dead.step());
            if (!row) {
                break;
            }
            newest = std::max(newest, tables.drop_dead.number(0));
        }
    }
    return newest == 0 ? Result<void>() : tables.note_dropped.bind(1, newest).run();
}

Result<std::unique_ptr<Watch>> SqliteStore::watch(api::Kind kind, WatchHandler handler) {
    std::lock_guard lock(watcher_mutex_);
    if (!watcher_) {
        TRY_ASSIGN(watcher_, SqliteWatcher::create(path_));
    }
    return watcher_->add(kind, std::move(handler));
}

void SqliteStore::when_delivered(std::function<void()> fn) {
    std::unique_lock lock(watcher_mutex_);
    if (watcher_) {
        watcher_->when_delivered(std::move(fn));
        return;
    }
    lock.unlock();
    fn(); // nobody watches
}

} // namespace

Result<std::unique_ptr<Store>> open_sqlite(const std::string& path, const SqliteOptions& options) {
    auto store = std::make_unique<SqliteStore>(path, options);
    TRY(store->start());
    return store;
}

} // namespace manx::datastore
