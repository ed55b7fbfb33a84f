// SPDX-License-Identifier: Apache-2.0
// Writes to the node's own object, off the loop: its addresses, those of its tunnels, and its
// NetworkUnavailable condition. What cannot be written is logged and tried again until it is; what
// others change is put right again.
//
// Threading: called on the loop's thread; the datastore is spoken to on a worker.
#pragma once

#include "agent/app/node_condition.h"
#include "agent/datastore/store.h"
#include "base/event_loop.h"
#include "base/worker.h"

#include <nlohmann/json.hpp>

#include <memory>
#include <optional>
#include <string>

namespace manx::app {

class NodeWriter {
public:
    NodeWriter(EventLoop& loop, datastore::Store& store, const std::string& node_name);

    // What the object lacks (see node_addresses.h, tunnel_care.h): a merge patch. What an earlier
    // one said of other members, and is not written yet, is written too.
    void patch_addresses(nlohmann::json patch);
    void set_network_state(NetworkState state);
    // The object has changed: whether the condition still says what it should.
    void object_changed();

private:
    void write_addresses();
    void write_condition();

    EventLoop& loop_;
    datastore::Store& store_;
    datastore::Key key_;
    std::optional<nlohmann::json> patch_; // to be written, or under way; nullopt: all is written
    std::optional<NetworkState> state_;   // as it should be
    bool writing_addresses_ = false;
    bool writing_condition_ = false;
    bool condition_is_old_ = false; // changed while it was written
    EventSource retry_addresses_;
    EventSource retry_condition_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Worker worker_{"node-writer"}; // last: ends before what its jobs use
};

} // namespace manx::app
