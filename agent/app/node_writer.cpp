// SPDX-License-Identifier: Apache-2.0
#include "agent/app/node_writer.h"

#include "base/log.h"

#include <fmt/chrono.h>
#include <nlohmann/json.hpp>

#include <ctime>
#include <utility>

namespace manx::app {

namespace {

constexpr int kTries = 5; // against other writers of the same object

std::string now_text() {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

Result<void> write_condition(datastore::Store& store, const datastore::Key& key,
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

void report(const Result<void>& outcome, const char* what) {
    if (!outcome && outcome.error().kind != ErrorKind::NotFound) {
        log::get("node")->warn("{} not written reason=\"{}\"", what, outcome.error().text());
    }
}

} // namespace

NodeWriter::NodeWriter(datastore::Store& store, const std::string& node_name)
    : store_(store), key_{api::Kind::Node, "", node_name} {
}

void NodeWriter::patch_addresses(const nlohmann::json& patch) {
    auto text = patch.dump();
    if (text == last_patch_) {
        return; // under way, or refused: the object's next change brings it again
    }
    last_patch_ = text;
    worker_.post([this, patch] {
        auto written = store_.patch(key_, patch);
        report(written ? Result<void>{} : Unexpected(written.error()), "the node's addresses");
    });
}

void NodeWriter::set_network_state(NetworkState state) {
    if (state_known_ && state == last_state_) {
        return;
    }
    state_known_ = true;
    last_state_ = state;
    worker_.post([this, state = std::move(state)] {
        report(write_condition(store_, key_, state), "the node's network condition");
    });
}

} // namespace manx::app
