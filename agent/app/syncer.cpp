// SPDX-License-Identifier: Apache-2.0
#include "agent/app/syncer.h"

#include "base/log.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace manx::app {

namespace {

constexpr size_t kMostPending = 256;

} // namespace

Syncer::Syncer(EventLoop& loop, datastore::Store& store, LastGood* last_good)
    : loop_(loop), store_(store), last_good_(last_good) {
    door_->syncer = this;
}

Syncer::~Syncer() {
    *alive_ = false;
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    room_.notify_all(); // a callback that waits would keep its watch from ending
    {
        std::lock_guard lock(door_->mutex);
        door_->syncer = nullptr;
    }
    for (auto& state : kinds_) {
        state->watch.reset(); // no callback runs after this
    }
}

void Syncer::add_kind(api::Kind kind, Parse parse,
                      std::function<void(const datastore::Key&)> remove) {
    auto state = std::make_unique<KindState>();
    state->kind = kind;
    state->parse = std::move(parse);
    state->remove = std::move(remove);
    kinds_.push_back(std::move(state));
}

Result<void> Syncer::start() {
    for (auto& owned : kinds_) {
        auto* state = owned.get();
        datastore::WatchHandler handler;
        handler.relist = [this, state] {
            enqueue([state] {
                state->listing = true;
                state->known.begin_list();
                state->unread.clear();
            });
        };
        handler.event = [this, state](datastore::Event event) {
            on_event(*state, std::move(event));
        };
        handler.synced = [this, state] { enqueue([this, state] { on_synced(*state); }); };
        handler.lost = [this, state](const Error& error) {
            enqueue([state, text = error.text()] {
                state->trouble = text;
                log::get("datastore")
                    ->warn("watch lost, retrying kind={} reason=\"{}\"",
                           api::info(state->kind).name, text);
            });
        };
        TRY_ASSIGN(state->watch, store_.watch(state->kind, std::move(handler)));
    }
    return {};
}

void Syncer::when_applied(std::function<void()> fn) {
    store_.when_delivered([door = door_, fn = std::move(fn)] {
        std::lock_guard lock(door->mutex);
        if (Syncer* syncer = door->syncer) {
            syncer->enqueue([syncer, fn] { syncer->reached_.push_back(fn); });
        }
    });
}

bool Syncer::synced() const {
    return std::ranges::all_of(kinds_, [](const auto& state) { return state->synced; });
}

std::string Syncer::trouble() const {
    const auto lost =
        std::ranges::find_if(kinds_, [](const auto& state) { return !state->trouble.empty(); });
    return lost == kinds_.end() ? std::string() : (*lost)->trouble;
}

void Syncer::enqueue(std::function<void()> job, BatchTimes::Clock::time_point came) {
    bool first = false;
    {
        std::unique_lock lock(mutex_);
        room_.wait(lock, [this] { return pending_.size() < kMostPending || stopping_; });
        first = pending_.empty();
        if (first) {
            pending_times_.read = came;
        }
        pending_times_.parsed = BatchTimes::Clock::now();
        pending_.push_back(std::move(job));
    }
    if (first) {
        loop_.post([this, alive = alive_] {
            if (*alive) {
                drain();
            }
        });
    }
}

bool Syncer::outlives(const KindState& state) const {
    return last_good_ != nullptr && keeps_last_good(state.kind);
}

// On the store's thread: parse here, so that the loop only applies.
void Syncer::on_event(KindState& state, datastore::Event event) {
    const auto came = BatchTimes::Clock::now();
    if (event.type == datastore::EventType::Deleted) {
        enqueue(
            [this, &state, key = std::move(event.object.key),
             version = std::move(event.object.resource_version)] {
                updates_++;
                applied_ = version;
                on_gone(state, key);
                if (state.known.erase(key.ns, key.name)) {
                    state.remove(key);
                }
            },
            came);
        return;
    }
    auto object = nlohmann::json::parse(event.object.json, nullptr, false);
    Result<Parsed> parsed = object.is_discarded()
                                ? Result<Parsed>(fail(ErrorKind::ConfigInvalid, "expected JSON"))
                                : state.parse(object, event.object.key);
    if (!parsed) {
        enqueue(
            [this, &state, key = std::move(event.object.key), uid = std::move(event.object.uid),
             version = std::move(event.object.resource_version), text = parsed.error().text()] {
                updates_++;
                applied_ = version;
                stay_with_earlier(state, key, uid);
                state.known.mark(key.ns, key.name);
                state.unread.insert(key);
                auto& known = invalid_[key];
                if (known != text) {
                    known = text;
                    log::get("datastore")
                        ->error(
                            "object ignored, what was in force stays object=\"{}\" reason=\"{}\"",
                            key.text(), text);
                }
            },
            came);
        return;
    }
    LastGood::State good;
    if (outlives(state) && !parsed->leaves_earlier) {
        good.object = std::move(event.object.json);
    }
    enqueue(
        [this, &state, key = std::move(event.object.key), uid = std::move(event.object.uid),
         version = std::move(event.object.resource_version), parsed = std::move(*parsed),
         good = std::move(good)]() mutable {
            updates_++;
            applied_ = version;
            invalid_.erase(key);
            state.unread.erase(key);
            if (parsed.leaves_earlier) {
                stay_with_earlier(state, key, uid);
            } else if (outlives(state) && !uid.empty()) {
                good.uid = std::move(uid);
                good.version = std::move(version);
                last_good_->keep(key, std::move(good));
            }
            state.known.insert(key.ns, key.name);
            parsed.apply();
        },
        came);
}

// An object that cannot be read, or not as a whole: what was good of it is in force, if it was this
// very object. At a start that comes from the disk.
void Syncer::stay_with_earlier(KindState& state, const datastore::Key& key,
                               const std::string& uid) {
    if (!outlives(state)) {
        return;
    }
    const auto kept = last_good_->find(key);
    if (!kept) {
        return;
    }
    const bool in_force = state.known.mark(key.ns, key.name);
    if (kept->uid != uid) { // deleted and made again while nobody was told
        last_good_->forget(key);
        if (in_force) {
            state.known.erase(key.ns, key.name);
            state.remove(key);
        }
        return;
    }
    last_good_->hold(key);
    if (in_force) {
        return;
    }
    const auto object = nlohmann::json::parse(kept->object, nullptr, false);
    const auto parsed = object.is_discarded()
                            ? Result<Parsed>(fail(ErrorKind::ConfigInvalid, "expected JSON"))
                            : state.parse(object, key);
    if (!parsed) { // as an earlier version understood it
        log::get("datastore")
            ->error("the last good state is not understood object=\"{}\" reason=\"{}\"", key.text(),
                    parsed.error().text());
        return;
    }
    log::get("datastore")
        ->info("the last good state is in force again object=\"{}\" version={}", key.text(),
               kept->version);
    state.known.insert(key.ns, key.name);
    parsed->apply();
}

void Syncer::on_gone(KindState& state, const datastore::Key& key) {
    invalid_.erase(key);
    state.unread.erase(key);
    if (outlives(state)) {
        last_good_->forget(key);
    }
}

void Syncer::on_synced(KindState& state) {
    if (std::exchange(state.listing, false)) {
        std::erase_if(invalid_, [&state](const auto& one) {
            return one.first.kind == state.kind && !state.unread.contains(one.first);
        });
        for (auto& [ns, name] : state.known.end_list()) {
            const datastore::Key key{state.kind, std::move(ns), std::move(name)};
            on_gone(state, key);
            state.remove(key);
        }
        if (outlives(state)) {
            last_good_->end_list(state.kind);
        }
    }
    state.trouble.clear();
    state.synced = true;
}

void Syncer::drain() {
    std::vector<std::function<void()>> batch;
    BatchTimes times;
    {
        std::lock_guard lock(mutex_);
        batch.swap(pending_);
        times = pending_times_;
    }
    room_.notify_one();
    times.taken = BatchTimes::Clock::now();
    for (auto& job : batch) {
        job();
    }
    const auto reached = std::exchange(reached_, {});
    times.updates = batch.size() - reached.size();
    times.applied = BatchTimes::Clock::now();
    if (times.updates > 0) { // marks alone change nothing
        times_ = times;
        if (on_batch_) {
            on_batch_(synced());
        }
    }
    for (const auto& fn : reached) {
        fn();
    }
    if (last_good_ != nullptr) { // after what a change is waited for
        last_good_->write_out();
    }
}

} // namespace manx::app
