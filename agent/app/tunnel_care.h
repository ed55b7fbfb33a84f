// SPDX-License-Identifier: Apache-2.0
// Keeps the addresses of this node's tunnels (agent/ipam/tunnels.h) as pools and Node ask for them:
// a pass after each change, and again after a while when one failed. The node writer writes what a
// pass finds into the Node; that change brings the next pass.
//
// Threading: the loop's thread; the datastore is spoken to on a worker.
#pragma once

#include "agent/api/node.h"
#include "agent/app/node_writer.h"
#include "agent/datastore/store.h"
#include "agent/ipam/tunnels.h"
#include "base/event_loop.h"
#include "base/worker.h"

#include <memory>
#include <optional>
#include <string>

namespace manx::app {

class TunnelCare {
public:
    // All outlive this. host_encryption: of WireGuard, see tunnels.h.
    TunnelCare(EventLoop& loop, datastore::Store& store, ipam::Allocator& allocator,
               NodeWriter& writer, const std::string& node_name, bool host_encryption);

    void pools_changed() { due_ = true; }

    void node_changed(const api::Node& node); // the own one
    // After a batch of changes. locked: the datastore is being migrated, nothing is written.
    void run(bool locked);

private:
    void start_pass();
    void finish_pass(const Result<ipam::TunnelPass>& done);

    EventLoop& loop_;
    NodeWriter& writer_;
    ipam::Tunnels tunnels_; // of the worker
    api::StringMap labels_; // of the Node, as of the last change that mattered
    api::StringMap annotations_;
    const bool host_encryption_;
    bool locked_ = true; // until the first snapshot is complete
    bool due_ = true;
    bool running_ = false;
    std::string trouble_;
    EventSource retry_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Worker worker_{"tunnel-ipam"}; // last: ends before what its jobs use
};

// The merge patch that writes them into the Node; an empty value removes its annotation.
nlohmann::json annotation_patch(const std::map<std::string, std::string>& annotations);

} // namespace manx::app
