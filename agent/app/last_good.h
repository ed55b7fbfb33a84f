// SPDX-License-Identifier: Apache-2.0
// The last states that were in force, on disk: so that an object which cannot be read keeps its
// last good state over a restart of the agent, as it does while the agent runs.
//
// One file per object, of the kinds in keeps_last_good(): the object as the datastore gave it, with
// its key, uid and version, and a digest of it all. Replaced by rename, so what is there is whole;
// made durable when it begins to matter, which is when the object becomes unreadable. A state
// belongs to the uid that it was written for: an object that was deleted and made again does not
// get it.
//
// Files are written on a thread of their own, after write_out(); what is not written yet is found
// all the same. A failure is logged once, and leaves what the file held before. A thousand objects
// of 1.2 kB are 15 ms of a start, and 0.2 ms each of the other thread when they change.
//
// Threading: the loop's thread.
#pragma once

#include "agent/datastore/store.h"
#include "base/worker.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace manx::app {

// Kinds that are few, and whose loss would open traffic or take routes away.
bool keeps_last_good(api::Kind kind);

class LastGood {
public:
    struct State {
        std::string uid;
        std::string version; // resourceVersion
        std::string object;  // JSON
    };

    // Makes the folder, with its parents. Files that are not whole are removed.
    static Result<std::unique_ptr<LastGood>> open(const std::string& folder);
    LastGood(const LastGood&) = delete;
    LastGood& operator=(const LastGood&) = delete;
    ~LastGood(); // when all is written

    // In force from now on. Nothing is written where it is on disk already.
    void keep(const datastore::Key& key, State state);
    // The object cannot be read now: its state, if there is one, must outlive the machine too.
    void hold(const datastore::Key& key);
    void forget(const datastore::Key& key);
    [[nodiscard]] std::optional<State> find(const datastore::Key& key) const;

    // A list of the kind is complete: what it did not name is gone.
    void end_list(api::Kind kind);
    // To be called after a batch of the above.
    void write_out();

private:
    struct Change {
        std::optional<State> state; // to write
        bool remove = false;
        bool sync = false;
    };

    explicit LastGood(std::string folder);
    Result<void> read_folder();
    void change(const datastore::Key& key, Change change);
    void write_pending(); // on the worker
    Result<void> write(const datastore::Key& key, const Change& change) const;
    [[nodiscard]] std::string path_of(const datastore::Key& key) const;

    std::string folder_;
    std::map<datastore::Key, std::string> unseen_; // at open: uid and version; until it was listed
    mutable std::mutex mutex_;                     // of the next
    std::map<datastore::Key, std::shared_ptr<const Change>> pending_;
    std::string trouble_; // of the worker
    Worker worker_{"last-good"};
};

} // namespace manx::app
