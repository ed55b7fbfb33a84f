// SPDX-License-Identifier: Apache-2.0
// Writes to the node's own object, off the loop: its addresses and its NetworkUnavailable
// condition. What cannot be written is logged and tried again with the next change, or after a
// while.
//
// Threading: called on the loop's thread; the datastore is spoken to on a worker.
#pragma once

#include "agent/app/node_condition.h"
#include "agent/datastore/store.h"
#include "base/worker.h"

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace manx::app {

class NodeWriter {
public:
    NodeWriter(datastore::Store& store, const std::string& node_name);

    void patch_addresses(const nlohmann::json& patch);
    void set_network_state(NetworkState state);

private:
    datastore::Store& store_;
    datastore::Key key_;
    std::string last_patch_;
    NetworkState last_state_;
    bool state_known_ = false;
    Worker worker_{"node-writer"}; // last: ends before what its jobs use
};

} // namespace manx::app
