// SPDX-License-Identifier: Apache-2.0
// The agent of a node: builds its parts in order of dependency and connects them. Reads as the
// wiring diagram; what the parts do is in their own folders.
//
//   datastore -> Syncer -> calculator --.
//   CNI socket -> CniServer -----------+-> Enforcer -> PolicyTables, Loader -> kernel
//   netlink -> HostLinks -> Loader, calculator
//   datastore -> Syncer -> BgpManager -> BIRD
#pragma once

#include "agent/app/config.h"
#include "base/event_loop.h"
#include "base/result.h"

#include <memory>

namespace manx::app {

class Agent {
public:
    // Starts everything, or says what is in the way; then nothing that was forwarding has changed.
    static Result<std::unique_ptr<Agent>> create(EventLoop& loop, const AgentConfig& config);
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;
    // Stops the agent's own parts. Programs, tables, routes and BIRD stay and forward.
    ~Agent();

private:
    class Impl;
    explicit Agent(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// Takes everything of Manx off the node: programs, tables, natOutgoing, BIRD. For an agent that
// does not run.
Result<void> remove_from_node(const AgentConfig& config);

} // namespace manx::app
