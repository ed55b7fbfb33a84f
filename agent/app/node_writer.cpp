// SPDX-License-Identifier: Apache-2.0
#include "agent/app/node_writer.h"

#include "base/log.h"

#include <fmt/chrono.h>

#include <chrono>
#include <ctime>
#include <utility>

namespace manx::app {

namespace {

constexpr int kTries = 5; // against other writers of the same object
constexpr auto kRetry = std::chrono::seconds(5);

std::string now_text() {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

Result<void> put_condition(datastore::Store& store, const datastore::Key& key,
                           const NetworkState& state) {
    for (int i = 0;; i++) {
        TRY_ASSIGN(auto object, store.get(key));
        auto node = nlohmann::json::parse(object.json, nullptr, false);
        auto changed = with_network_condition(node, state, now_text());
        if (!changed) {
            return {};
        }
        auto written = store.update(key, *changed);
        if (written) {
            return {};
        }
        if (written.error().kind != ErrorKind::Conflict || i + 1 == kTries) {
            return Unexpected(written.error());
        }
    }
}

// One merge patch that says what both say, the later one where they differ. (merge_patch() would
// do what a null says, and so forget it.)
void join(nlohmann::json& patch, const nlohmann::json& later) {
    for (const auto& [name, value] : later.items()) {
        if (value.is_object() && patch.contains(name) && patch[name].is_object()) {
            join(patch[name], value);
        } else {
            patch[name] = value;
        }
    }
}

void report(const Result<void>& outcome, const char* what) {
    if (!outcome && outcome.error().kind != ErrorKind::NotFound) {
        log::get("node")->warn("{} not written, trying again reason=\"{}\"", what,
                               outcome.error().text());
    }
}

EventSource again(EventLoop& loop, std::function<void()> fn) {
    auto timer = loop.add_timer(kRetry, std::move(fn));
    return timer ? std::move(*timer) : EventSource();
}

} // namespace

NodeWriter::NodeWriter(EventLoop& loop, datastore::Store& store, const std::string& node_name)
    : loop_(loop), store_(store), key_{api::Kind::Node, "", node_name} {
}

void NodeWriter::patch_addresses(nlohmann::json patch) {
    if (patch_) {
        join(*patch_, patch);
    } else {
        patch_ = std::move(patch);
    }
    if (!writing_addresses_) {
        write_addresses();
    }
}

void NodeWriter::write_addresses() {
    writing_addresses_ = true;
    retry_addresses_ = {};
    worker_.post([this, patch = *patch_, alive = std::weak_ptr(alive_)] {
        auto patched = store_.patch(key_, patch);
        Result<void> written = patched ? Result<void>{} : Unexpected(patched.error());
        report(written, "the node's addresses");
        loop_.post([this, patch, alive, good = written.has_value()] {
            if (alive.expired()) {
                return;
            }
            writing_addresses_ = false;
            if (!good) {
                retry_addresses_ = again(loop_, [this] { write_addresses(); });
            } else if (*patch_ != patch) {
                write_addresses();
            } else {
                patch_.reset(); // a later one is not to write this again
            }
        });
    });
}

void NodeWriter::set_network_state(NetworkState state) {
    if (state_ == state) {
        return;
    }
    state_ = std::move(state);
    write_condition();
}

void NodeWriter::object_changed() {
    if (state_) {
        write_condition();
    }
}

void NodeWriter::write_condition() {
    if (writing_condition_) {
        condition_is_old_ = true;
        return;
    }
    writing_condition_ = true;
    condition_is_old_ = false;
    retry_condition_ = {};
    worker_.post([this, state = *state_, alive = std::weak_ptr(alive_)] {
        auto written = put_condition(store_, key_, state);
        report(written, "the node's network condition");
        loop_.post([this, alive, good = written.has_value()] {
            if (alive.expired()) {
                return;
            }
            writing_condition_ = false;
            if (!good) {
                retry_condition_ = again(loop_, [this] { write_condition(); });
            } else if (condition_is_old_) {
                write_condition();
            }
        });
    });
}

} // namespace manx::app
