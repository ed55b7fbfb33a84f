// SPDX-License-Identifier: Apache-2.0
// The agent's side of CNI: listens on the unix socket that the plugin binary connects to, parses
// calls, has Attachments carry them out, answers. docs/design/cni.md tells the whole way of a call.
//
// Threading: all on the loop's thread; nothing here blocks.
#pragma once

#include "agent/api/pool.h"
#include "agent/cni/attachments.h"
#include "agent/netlink/netns.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace manx::cni {

struct ServerOptions {
    std::string socket_path = "/run/manx/cni.sock"; // its folder must exist; mode 0600
    std::string state_dir = "/var/lib/manx";
};

// Calls since the start, for metrics.
struct CommandStatistics {
    uint64_t calls = 0;
    uint64_t errors = 0;
    uint64_t microseconds = 0; // from the first byte to the answer, summed up
    uint64_t longest_microseconds = 0;
};

class CniServer {
public:
    using Dependencies = Attachments::Dependencies;

    static Result<std::unique_ptr<CniServer>> create(const Dependencies& with,
                                                     const ServerOptions& options);
    CniServer(const CniServer&) = delete;
    CniServer& operator=(const CniServer&) = delete;
    ~CniServer();

    // Gives known endpoints to the sink and opens the socket. From here on DEL and GC are served;
    // ADD is answered with "try again later" and a reason until set_not_ready("").
    Result<void> start();

    // Empty reason: ADD is served. Otherwise why not: what STATUS and ADD say.
    void set_not_ready(std::string reason) { not_ready_ = std::move(reason); }

    // What the rest of the agent knows, and the server needs.
    void upsert_pool(const api::IpPool& pool);
    void remove_pool(const std::string& name);
    void set_node_labels(api::LabelMap labels);

    void set_default_mtu(uint32_t mtu) { attachments_->set_default_mtu(mtu); }

    // What happens to workloads' devices; see Attachments.
    void workload_routes(uint32_t ifindex) { attachments_->repair_routes(ifindex); }

    void workload_hooks(uint32_t ifindex) { attachments_->check_hooks(ifindex); }

    void workload_state(uint32_t ifindex, bool up) { attachments_->device_state(ifindex, up); }

    void workload_gone(uint32_t ifindex) { attachments_->device_gone(ifindex); }

    void look_after_all() { attachments_->look_after_all(); }

    [[nodiscard]] const Attachments& attachments() const { return *attachments_; }

    // By command: "ADD", "DEL", ...
    [[nodiscard]] const std::map<std::string, CommandStatistics, std::less<>>& statistics() const {
        return statistics_;
    }

private:
    struct Connection;

    CniServer(EventLoop& loop, ServerOptions options, std::unique_ptr<Attachments> attachments,
              netlink::NetnsId own_netns);
    Result<void> listen();
    Result<void> watch_listener();
    void pause_listener(); // for a moment
    void set_deadline(uint64_t id);
    void on_connect();
    void on_readable(uint64_t id);
    void on_writable(uint64_t id);
    void on_request(uint64_t id);
    void dispatch(CniRequest request, UniqueFd netns, Answer answer);
    [[nodiscard]] Outcome status(const CniRequest& request) const;
    void reply(uint64_t id, std::string_view version, const Outcome& outcome);
    void account(std::string_view command, std::chrono::steady_clock::time_point since,
                 bool failed);

    EventLoop& loop_;
    ServerOptions options_;
    log::Logger log_;
    std::unique_ptr<Attachments> attachments_;
    std::string not_ready_ = "the agent is starting";
    netlink::NetnsId own_netns_; // the node's
    UniqueFd listener_;
    EventSource listener_source_;
    EventSource pause_;     // of the listener
    bool refusing_ = false; // connections, as said in the log
    uint64_t next_id_ = 1;
    std::map<uint64_t, std::unique_ptr<Connection>> connections_;
    std::map<std::string, CommandStatistics, std::less<>> statistics_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace manx::cni
