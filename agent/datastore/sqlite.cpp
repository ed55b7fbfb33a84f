// SPDX-License-Identifier: Apache-2.0
#include "agent/datastore/sqlite.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace manx::datastore {

namespace {

Unexpected failed(sqlite3* database, int code, std::string_view what) {
    // Busy after all retries, a full disk, a file that is gone: all may pass.
    const char* text = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code);
    return fail(ErrorKind::Unavailable, fmt::format("datastore: {}: {}", what, text));
}

// Another process is writing: it needs some 50 us, so SQLite's own steps of milliseconds would
// cost more than they spare. About 10 s in all, then the caller gets Unavailable.
int wait_for_writer(void* /*unused*/, int attempt) {
    constexpr int kAttempts = 10000;
    if (attempt > kAttempts) {
        return 0;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(1 + attempt, 20) * 50));
    return 1;
}

} // namespace

Statement& Statement::bind(int parameter, std::string_view text) {
    sqlite3_bind_text(handle_.get(), parameter, text.data(), static_cast<int>(text.size()),
                      SQLITE_STATIC);
    return *this;
}

Statement& Statement::bind(int parameter, int64_t number) {
    sqlite3_bind_int64(handle_.get(), parameter, number);
    return *this;
}

Result<bool> Statement::step() {
    int code = sqlite3_step(handle_.get());
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return failed(sqlite3_db_handle(handle_.get()), code, "statement");
    }
    return code == SQLITE_ROW;
}

Result<void> Statement::run() {
    StatementScope scope(*this);
    for (bool row = true; row;) {
        TRY_ASSIGN(row, step());
    }
    return {};
}

void Statement::reset() {
    sqlite3_reset(handle_.get());
}

std::string_view Statement::text(int column) const {
    const void* bytes = sqlite3_column_blob(handle_.get(), column);
    int size = sqlite3_column_bytes(handle_.get(), column);
    return {static_cast<const char*>(bytes), static_cast<size_t>(size)};
}

int64_t Statement::number(int column) const {
    return sqlite3_column_int64(handle_.get(), column);
}

Result<Database> Database::open(const std::string& path) {
    Database database;
    sqlite3* raw = nullptr;
    int code =
        sqlite3_open_v2(path.c_str(), &raw,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    database.handle_.reset(raw);
    if (code != SQLITE_OK) {
        return failed(raw, code, "open " + path);
    }
    sqlite3_busy_handler(raw, wait_for_writer, nullptr);
    return database;
}

Result<void> Database::execute(const char* sql) {
    int code = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) {
        return failed(handle_.get(), code, sql);
    }
    return {};
}

Result<Statement> Database::prepare(const char* sql) {
    sqlite3_stmt* raw = nullptr;
    int code = sqlite3_prepare_v3(handle_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (code != SQLITE_OK) {
        return failed(handle_.get(), code, sql);
    }
    return Statement(StatementHandle(raw));
}

void Database::checkpoint_by_hand() {
    log_pages_ = std::make_unique<int>(0);
    sqlite3_wal_hook(
        handle_.get(),
        [](void* pages, sqlite3* /*database*/, const char* /*name*/, int count) {
            *static_cast<int*>(pages) = count;
            return SQLITE_OK;
        },
        log_pages_.get());
}

void Database::checkpoint() {
    // One that has read nothing yet does not know of the log.
    (void)execute("PRAGMA user_version");
    // What it could not move for a reader or a full disk, a later one will.
    (void)sqlite3_wal_checkpoint_v2(handle_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr,
                                    nullptr);
}

bool Database::finish_checkpoint() {
    sqlite3_busy_handler(handle_.get(), nullptr, nullptr); // it would hold all writers up
    const int code = sqlite3_wal_checkpoint_v2(handle_.get(), nullptr, SQLITE_CHECKPOINT_RESTART,
                                               nullptr, nullptr);
    sqlite3_busy_handler(handle_.get(), wait_for_writer, nullptr);
    return code == SQLITE_OK;
}

void Database::release_memory() {
    (void)sqlite3_db_release_memory(handle_.get()); // always SQLITE_OK
}

bool Database::in_transaction() const {
    return sqlite3_get_autocommit(handle_.get()) == 0;
}

Result<Transaction> Transaction::start(Database& database, const char* begin) {
    TRY(database.execute(begin));
    return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {
}

Transaction::~Transaction() {
    if (database_ != nullptr && database_->in_transaction()) {
        // Nothing to tell: what is not committed is not there either way.
        (void)database_->execute("ROLLBACK");
    }
}

Result<void> Transaction::commit() {
    TRY(database_->execute("COMMIT"));
    database_ = nullptr;
    return {};
}

} // namespace manx::datastore
