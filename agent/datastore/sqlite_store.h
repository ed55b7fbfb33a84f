// SPDX-License-Identifier: Apache-2.0
// The embedded engine: one SQLite file that several processes of one machine share.
//
// A write is one transaction of SQLite's write-ahead log: after a kill it is there whole or not at
// all. resourceVersion is a counter over the whole file. A watch hears of a commit of its own
// process, or of another one, within a millisecond or two; of several changes of one object
// between two readings it hears the last. All watches of a store share one thread and one
// connection; their callbacks must be short (parse, post), since they hold a read transaction.
#pragma once

#include "agent/datastore/store.h"

#include <cstdint>
#include <memory>
#include <string>

namespace manx::datastore {

struct SqliteOptions {
    // Deleted objects that are remembered for watches which lag; one that lags more lists again.
    int64_t tombstones = 4096;
    // Pages of 4 KiB in "<path>-wal" from which on it is moved into the file by a thread of the
    // store. The first commit of a new log waits for the disk: some 90 pods of a node come and go
    // between two. Writers without a pause let it grow to four times as much, and then wait.
    int log_pages = 4000;
};

// Creates the file where there is none. Beside it: "<path>-wal", "<path>-shm" (SQLite's own) and
// "<path>-notify" (touched after each commit). The folder must exist and be writable. Unavailable.
Result<std::unique_ptr<Store>> open_sqlite(const std::string& path,
                                           const SqliteOptions& options = {});

} // namespace manx::datastore
