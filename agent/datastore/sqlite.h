// SPDX-License-Identifier: Apache-2.0
// SQLite's C interface with owners and Results: what the engine needs of it, no more.
// A Database and its Statements belong to one thread at a time.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <memory>
#include <sqlite3.h>
#include <string>
#include <string_view>

namespace manx::datastore {

using DatabaseHandle = UniqueHandle<sqlite3, sqlite3_close_v2>;
using StatementHandle = UniqueHandle<sqlite3_stmt, sqlite3_finalize>;

class Statement {
public:
    Statement() = default;

    explicit Statement(StatementHandle handle) : handle_(std::move(handle)) {}

    // Parameters are numbered from 1. Text must live until the next reset().
    Statement& bind(int parameter, std::string_view text);
    Statement& bind(int parameter, int64_t number);
    // True: a row is there; false: the end.
    Result<bool> step();
    // To the end, ignoring rows; then reset.
    Result<void> run();
    void reset();

    // Columns are numbered from 0; text lives until the next step or reset.
    [[nodiscard]] std::string_view text(int column) const;
    [[nodiscard]] int64_t number(int column) const;

private:
    StatementHandle handle_;
};

// Resets the statement at the end of the scope, which ends its read transaction too.
class StatementScope {
public:
    explicit StatementScope(Statement& statement) : statement_(statement) {}

    StatementScope(const StatementScope&) = delete;
    StatementScope& operator=(const StatementScope&) = delete;

    ~StatementScope() { statement_.reset(); }

private:
    Statement& statement_;
};

class Database {
public:
    Database() = default;
    static Result<Database> open(const std::string& path);

    Result<void> execute(const char* sql);
    Result<Statement> prepare(const char* sql);

    [[nodiscard]] bool in_transaction() const;

    // From now on commits leave the write-ahead log as it is, and log_pages() says how long it was
    // after the last one.
    void checkpoint_by_hand();

    [[nodiscard]] int log_pages() const { return log_pages_ ? *log_pages_ : 0; }

    // Moves the log into the database, as far as no reader needs it: that syncs the disk, and is
    // not to delay a commit. Others write meanwhile.
    void checkpoint();
    // The rest of it, while nobody writes, so that the log begins anew. At once: false where others
    // read from it or write just now.
    bool finish_checkpoint();

    // Gives back what the cache of pages does not need.
    void release_memory();

private:
    DatabaseHandle handle_;
    std::unique_ptr<int> log_pages_; // after the last commit; written by SQLite's hook
};

// Rolls back at the end of the scope, unless committed.
class Transaction {
public:
    // begin is "BEGIN" for reading, "BEGIN IMMEDIATE" for writing.
    static Result<Transaction> start(Database& database, const char* begin);
    Transaction(Transaction&& other) noexcept;
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();

    Result<void> commit();

private:
    explicit Transaction(Database& database) : database_(&database) {}

    Database* database_;
};

} // namespace manx::datastore
