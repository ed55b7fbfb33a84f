// SPDX-License-Identifier: Apache-2.0
// The tables of the SQLite engine and one connection to them with its prepared statements.
//
//   objects     the living: kind (plural.group), ns, name, uid, json; revision of the last write,
//               created = revision of the creation
//   tombstones  the dead, by the revision of their death; the oldest are dropped in time
//   state       one row: the last revision, and the newest tombstone that was dropped
//
// Changes since a revision are the objects with a higher one, and the tombstones with a higher
// one: no log of changes is written beside the objects.
#pragma once

#include "agent/datastore/sqlite.h"
#include "agent/datastore/store.h"

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace manx::datastore {

// "ippools.crd.projectcalico.org", "pods": the kind column.
std::string kind_column(api::Kind kind);

struct Head {
    int64_t revision = 0;  // of the last write
    int64_t compacted = 0; // tombstones up to here may be missing
};

// One connection. Not thread-safe. After an error of its file the owner drops it and opens anew.
struct Tables {
    Database database;
    Statement head;         // -> revision, compacted
    Statement next;         // increments and returns the revision
    Statement get;          // kind, ns, name -> kObjectColumns
    Statement list;         // kind, ns (or "") -> kObjectColumns
    Statement insert;       // kind, ns, name, revision, uid, created_at, json
    Statement update;       // kind, ns, name, revision, json
    Statement remove;       // kind, ns, name
    Statement bury;         // revision, kind, ns, name: copies the living row
    Statement changed;      // > revision -> kObjectColumns
    Statement died;         // > revision -> kObjectColumns
    Statement drop_dead;    // keep: number of tombstones to keep
    Statement note_dropped; // sets state.compacted
    ino_t inode = 0;

    static Result<Tables> open(const std::string& path);
    // False: the file was deleted or replaced since.
    [[nodiscard]] bool is_current(const std::string& path) const;
    Result<Head> read_head();
};

// Columns of get, list, changed and died.
enum ObjectColumn : int {
    kColumnKind,
    kColumnNs,
    kColumnName,
    kColumnRevision,
    kColumnCreated,
    kColumnUid,
    kColumnCreatedAt,
    kColumnJson,
};

// The row's object; kind is the caller's, who looked it up by kind or by kind_column().
Object object_of(const Statement& row, api::Kind kind);

} // namespace manx::datastore
