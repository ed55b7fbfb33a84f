// SPDX-License-Identifier: Apache-2.0
#include "agent/datastore/sqlite_tables.h"

#include <fmt/format.h>

#include <sys/stat.h>

#include <chrono>
#include <thread>

namespace manx::datastore {

namespace {

constexpr int kSchema = 1;

constexpr const char* kCreateTables = R"sql(
CREATE TABLE objects(
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
  revision INTEGER NOT NULL, created INTEGER NOT NULL,
  uid TEXT NOT NULL, created_at TEXT NOT NULL, json TEXT NOT NULL,
  UNIQUE(kind, ns, name));
CREATE UNIQUE INDEX objects_by_revision ON objects(revision);
CREATE TABLE tombstones(
  revision INTEGER PRIMARY KEY, created INTEGER NOT NULL,
  kind TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
  uid TEXT NOT NULL, json TEXT NOT NULL);
CREATE TABLE state(
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL, compacted INTEGER NOT NULL);
INSERT INTO state VALUES(1, 0, 0);
PRAGMA application_id = 0x4d616e78;
PRAGMA user_version = 1;
)sql";

// Entering WAL mode does not call the busy handler while another process does the same.
Result<void> enter_wal(Database& database) {
    for (int attempt = 0;; attempt++) {
        auto done = database.execute("PRAGMA journal_mode = WAL");
        if (done || attempt == 200) {
            return done;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

Result<int64_t> user_version(Database& database) {
    TRY_ASSIGN(Statement version, database.prepare("PRAGMA user_version"));
    TRY(version.step());
    return version.number(0);
}

Result<void> create_tables(Database& database) {
    TRY_ASSIGN(int64_t version, user_version(database));
    if (version == 0) {
        TRY_ASSIGN(auto transaction, Transaction::start(database, "BEGIN IMMEDIATE"));
        TRY_ASSIGN(version, user_version(database)); // another process may have been first
        if (version == 0) {
            TRY(database.execute(kCreateTables));
            version = kSchema;
        }
        TRY(transaction.commit());
    }
    if (version != kSchema) {
        return fail(
            ErrorKind::ConfigInvalid,
            fmt::format("datastore: file has schema {}, this program knows {}", version, kSchema));
    }
    return {};
}

} // namespace

std::string kind_column(api::Kind kind) {
    const auto& info = api::info(kind);
    size_t slash = info.api_version.find('/');
    if (slash == std::string_view::npos) {
        return std::string(info.plural);
    }
    return fmt::format("{}.{}", info.plural, info.api_version.substr(0, slash));
}

Result<Tables> Tables::open(const std::string& path) {
    Tables tables;
    TRY_ASSIGN(tables.database, Database::open(path));
    Database& db = tables.database;
    TRY(enter_wal(db));
    // NORMAL: the log is synced at checkpoints. A killed process loses nothing; a power cut may
    // lose the last commits, but never leaves a torn one.
    TRY(db.execute("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -128;"
                   "PRAGMA journal_size_limit = 33554432; PRAGMA temp_store = MEMORY"));
    TRY(create_tables(db));
    TRY_ASSIGN(tables.head, db.prepare("SELECT revision, compacted FROM state"));
    TRY_ASSIGN(tables.next,
               db.prepare("UPDATE state SET revision = revision + 1 RETURNING revision"));
    TRY_ASSIGN(tables.get, db.prepare("SELECT kind, ns, name, revision, created, uid, created_at,"
                                      " json FROM objects WHERE kind = ?1 AND ns = ?2 AND"
                                      " name = ?3"));
    TRY_ASSIGN(tables.list, db.prepare("SELECT kind, ns, name, revision, created, uid, created_at,"
                                       " json FROM objects WHERE kind = ?1 AND"
                                       " (?2 = '' OR ns = ?2) ORDER BY ns, name"));
    TRY_ASSIGN(tables.insert,
               db.prepare("INSERT INTO objects(kind, ns, name, revision, created, uid, created_at,"
                          " json) VALUES(?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)"));
    TRY_ASSIGN(tables.update, db.prepare("UPDATE objects SET revision = ?4, json = ?5 WHERE"
                                         " kind = ?1 AND ns = ?2 AND name = ?3"));
    TRY_ASSIGN(tables.remove,
               db.prepare("DELETE FROM objects WHERE kind = ?1 AND ns = ?2 AND name = ?3"));
    TRY_ASSIGN(tables.bury, db.prepare("INSERT INTO tombstones SELECT ?1, created, kind, ns, name,"
                                       " uid, json FROM objects WHERE kind = ?2 AND ns = ?3 AND"
                                       " name = ?4"));
    TRY_ASSIGN(tables.changed,
               db.prepare("SELECT kind, ns, name, revision, created, uid, created_at, json FROM"
                          " objects WHERE revision > ?1 ORDER BY revision"));
    TRY_ASSIGN(tables.died, db.prepare("SELECT kind, ns, name, revision, created, uid, '', json"
                                       " FROM tombstones WHERE revision > ?1 ORDER BY revision"));
    TRY_ASSIGN(tables.drop_dead,
               db.prepare("DELETE FROM tombstones WHERE revision <= (SELECT revision FROM"
                          " tombstones ORDER BY revision DESC LIMIT 1 OFFSET ?1)"
                          " RETURNING revision"));
    TRY_ASSIGN(tables.note_dropped, db.prepare("UPDATE state SET compacted = max(compacted, ?1)"));
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) {
        return fail_errno("datastore: " + path);
    }
    tables.inode = info.st_ino;
    return tables;
}

bool Tables::is_current(const std::string& path) const {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && info.st_ino == inode;
}

Result<Head> Tables::read_head() {
    StatementScope scope(head);
    TRY_ASSIGN(bool row, head.step());
    if (!row) {
        return fail(ErrorKind::Unavailable, "datastore: the file has no state");
    }
    return Head{head.number(0), head.number(1)};
}

Object object_of(const Statement& row, api::Kind kind) {
    Object object;
    object.key = {kind, std::string(row.text(kColumnNs)), std::string(row.text(kColumnName))};
    object.json = row.text(kColumnJson);
    object.resource_version = std::to_string(row.number(kColumnRevision));
    object.uid = row.text(kColumnUid);
    return object;
}

} // namespace manx::datastore
