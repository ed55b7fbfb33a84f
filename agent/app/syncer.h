// SPDX-License-Identifier: Apache-2.0
// From the datastore to the agent's state: watches kinds, parses on the store's thread, and hands
// typed objects to the loop's thread in batches.
//
// An object that cannot be parsed is reported once, by name and field, and counted; what was in
// force for it stays, over a restart too for the kinds of last_good.h: its last good state comes
// first then. So it is with an object that is parsed and leaves an earlier state in force. After a
// lost watch was listed anew, what is gone is removed; nothing is removed while a list is
// incomplete.
//
// Parsed objects that wait for the loop are bounded: the store's thread waits for room, so that a
// list of ten thousand pods is never in memory as a whole.
//
// Threading: constructed, started and used on the loop's thread.
#pragma once

#include "agent/app/last_good.h"
#include "agent/app/name_set.h"
#include "agent/datastore/store.h"
#include "base/event_loop.h"

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace manx::app {

// When the steps of one batch were done: where a change's time goes.
struct BatchTimes {
    using Clock = std::chrono::steady_clock;

    size_t updates = 0;
    Clock::time_point read;    // its first event came from the store
    Clock::time_point parsed;  // its last event was parsed
    Clock::time_point taken;   // the loop began to apply it
    Clock::time_point applied; // everybody has been told
};

// Whether it leaves an earlier state of the object in force, if there is one.
template <typename T>
bool leaves_earlier(const T& object) {
    if constexpr (requires { object.subject_unread; }) {
        return object.subject_unread;
    } else if constexpr (requires { object.problems; }) {
        return !object.problems.empty();
    } else {
        return false;
    }
}

class Syncer {
public:
    // last_good: none, where nothing is to outlive the process; else it outlives the Syncer.
    Syncer(EventLoop& loop, datastore::Store& store, LastGood* last_good = nullptr);
    Syncer(const Syncer&) = delete;
    Syncer& operator=(const Syncer&) = delete;
    ~Syncer();

    // T: an object type with static Result<T> from_json(const nlohmann::json&).
    template <typename T>
    void on(api::Kind kind, std::function<void(const T&, const datastore::Key&)> upsert,
            std::function<void(const datastore::Key&)> remove) {
        add_kind(
            kind,
            [upsert = std::move(upsert)](const nlohmann::json& object,
                                         const datastore::Key& key) -> Result<Parsed> {
                auto parsed = T::from_json(object);
                if (!parsed) {
                    return Unexpected(parsed.error());
                }
                auto shared = std::make_shared<const T>(std::move(*parsed));
                return Parsed{[upsert, shared, key] { upsert(*shared, key); },
                              leaves_earlier(*shared)};
            },
            std::move(remove));
    }

    // Called on the loop's thread after each batch was applied; synced: all kinds are complete.
    void on_batch(std::function<void(bool synced)> fn) { on_batch_ = std::move(fn); }

    // Calls fn on the loop's thread once everything that is in the datastore now has been applied
    // and told on_batch(); at the earliest when all kinds are complete.
    void when_applied(std::function<void()> fn);

    Result<void> start();
    [[nodiscard]] bool synced() const;

    // Objects that are not in force as they stand, with the reason.
    [[nodiscard]] const std::map<datastore::Key, std::string>& invalid() const { return invalid_; }

    // What stands between us and the datastore, empty if nothing.
    [[nodiscard]] std::string trouble() const;

    [[nodiscard]] uint64_t updates() const { return updates_; }

    // resourceVersion of the last event that was applied; empty before the first.
    [[nodiscard]] const std::string& applied() const { return applied_; }

    // Of the last batch.
    [[nodiscard]] const BatchTimes& times() const { return times_; }

private:
    struct Parsed {
        std::function<void()> apply;
        bool leaves_earlier = false;
    };

    using Parse = std::function<Result<Parsed>(const nlohmann::json&, const datastore::Key&)>;

    struct KindState {
        api::Kind kind{};
        Parse parse;
        std::function<void(const datastore::Key&)> remove;
        std::unique_ptr<datastore::Watch> watch;
        NameSet known;
        std::set<datastore::Key> unread; // refused, of the list at hand and since
        bool listing = false;
        bool synced = false;
        std::string trouble; // why its watch is lost; empty: it is not
    };

    void add_kind(api::Kind kind, Parse parse, std::function<void(const datastore::Key&)> remove);
    // On the store's thread. came: when the event came from the store.
    void enqueue(std::function<void()> job,
                 BatchTimes::Clock::time_point came = BatchTimes::Clock::now());
    void on_event(KindState& state, datastore::Event event);
    [[nodiscard]] bool outlives(const KindState& state) const;
    void stay_with_earlier(KindState& state, const datastore::Key& key, const std::string& uid);
    void on_gone(KindState& state, const datastore::Key& key);
    void on_synced(KindState& state);
    void drain();

    EventLoop& loop_;
    datastore::Store& store_;
    LastGood* last_good_;
    std::vector<std::unique_ptr<KindState>> kinds_;
    std::function<void(bool)> on_batch_;
    std::map<datastore::Key, std::string> invalid_;
    uint64_t updates_ = 0;
    std::string applied_;
    BatchTimes times_;
    std::vector<std::function<void()>> reached_; // marks of when_applied() in the batch at hand

    // What the store may still call after the Syncer has gone.
    struct Door {
        std::mutex mutex;
        Syncer* syncer = nullptr;
    };

    std::shared_ptr<Door> door_ = std::make_shared<Door>();

    std::mutex mutex_; // of the four below
    std::vector<std::function<void()>> pending_;
    BatchTimes pending_times_;
    std::condition_variable room_; // in pending_, or stopping_
    bool stopping_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace manx::app
