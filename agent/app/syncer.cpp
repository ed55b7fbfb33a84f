// SPDX-License-Identifier: Apache-2.0
#include "agent/app/syncer.h"

#include "base/log.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace manx::app {

namespace {

constexpr size_t kMostPending = 256;

} // namespace

Syncer::Syncer(EventLoop& loop, datastore::Store& store) : loop_(loop), store_(store) {
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

// On the store's thread: parse here, so that the loop only applies.
void Syncer::on_event(KindState& state, datastore::Event event) {
    const auto came = BatchTimes::Clock::now();
    if (event.type == datastore::EventType::Deleted) {
        enqueue(
            [this, &state, key = std::move(event.object.key),
             version = std::move(event.object.resource_version)] {
                updates_++;
                applied_ = version;
                invalid_.erase(key);
                if (state.known.erase(key.ns, key.name)) {
                    state.remove(key);
                }
            },
            came);
        return;
    }
    auto object = nlohmann::json::parse(event.object.json, nullptr, false);
    Result<Apply> apply = object.is_discarded()
                              ? Result<Apply>(fail(ErrorKind::ConfigInvalid, "expected JSON"))
                              : state.parse(object, event.object.key);
    if (!apply) {
        enqueue(
            [this, &state, key = std::move(event.object.key),
             version = std::move(event.object.resource_version), text = apply.error().text()] {
                updates_++;
                applied_ = version;
                state.known.mark(key.ns, key.name);
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
    enqueue(
        [this, &state, key = std::move(event.object.key),
         version = std::move(event.object.resource_version), fn = std::move(*apply)] {
            updates_++;
            applied_ = version;
            invalid_.erase(key);
            state.known.insert(key.ns, key.name);
            fn();
        },
        came);
}

void Syncer::on_synced(KindState& state) {
    if (std::exchange(state.listing, false)) {
        for (auto& [ns, name] : state.known.end_list()) {
            const datastore::Key key{state.kind, std::move(ns), std::move(name)};
            invalid_.erase(key);
            state.remove(key);
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
}

} // namespace manx::app
