// SPDX-License-Identifier: Apache-2.0
// The agent's BGP: takes typed objects, renders, and keeps BIRD at what they say.
//
// Nothing is given to BIRD before the first complete snapshot of the datastore, so a restart of the
// agent withdraws nothing: BIRD runs on with what it has. A change that leaves the text as it was
// does not touch BIRD; a burst of changes is one reconfiguration.
//
// Threading: the loop's thread.
#pragma once

#include "agent/bgp/bird_process.h"
#include "agent/bgp/from_objects.h"
#include "base/event_loop.h"
#include "base/log.h"

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace manx::bgp {

struct BgpOptions {
    std::string node_name;
    BirdPaths bird;
    std::string secret_namespace = "kube-system"; // env NAMESPACE of calico-node
    RouterIdMode router_id_mode = RouterIdMode::NodeIp;
    IpAddress router_id; // for Literal
    SessionTimers timers{};
    uint32_t graceful_restart_wait = 60;
    // How often peers are looked at for metrics and readiness while all is well.
    std::chrono::seconds poll{15};
};

// CALICO_ROUTER_ID: empty, "hash", or an IPv4 address. ConfigInvalid.
Result<void> set_router_id(BgpOptions& options, std::string_view text);

struct PeerState {
    ProtocolStatus protocol;

    [[nodiscard]] bool established() const { return protocol.bgp_state == "Established"; }
};

struct BgpStatus {
    bool running = false;    // BIRD answers
    bool recovering = false; // graceful restart in progress
    bool config_in_force = false;
    std::string error;                 // why not
    std::vector<std::string> problems; // objects or parts that are left out
    std::vector<PeerState> peers;      // BGP sessions by name
    uint64_t starts = 0;
    uint64_t reconfigurations = 0;

    [[nodiscard]] size_t established() const;
    // Contract 7.5: all sessions up and no graceful restart under way (strict, the first 30 s);
    // after that one session, or none to be had.
    [[nodiscard]] bool ready(bool strict) const;
};

class BgpManager {
public:
    BgpManager(EventLoop& loop, BgpOptions options);
    BgpManager(const BgpManager&) = delete;
    BgpManager& operator=(const BgpManager&) = delete;

    // Adopts a BIRD that runs, or starts one with the last good configuration. Call once.
    void start();

    template <typename Object>
    void upsert(const Object& object) {
        dirty_ |= objects_.upsert(object);
    }

    void remove(api::Kind kind, const std::string& ns, const std::string& name) {
        dirty_ |= objects_.remove(kind, ns, name);
    }

    // After each batch of changes; synced: every kind's list has been complete once.
    void flush(bool synced);

    // Takes BIRD down: sessions close, kernel routes stay.
    void down() { bird_.down(); }

    // As of the last look; BIRD is asked every few seconds, more often while sessions come up.
    [[nodiscard]] const BgpStatus& status() const { return status_; }

    // After each look that changed the status.
    void on_status(std::function<void()> fn) { on_status_ = std::move(fn); }

    BirdControl& control() { return bird_.control(); }

private:
    void refresh();
    void refresh_in(std::chrono::milliseconds after);
    void note_process();
    void note_problems(std::vector<std::string> problems);

    EventLoop& loop_;
    BgpOptions options_;
    ObjectTable objects_;
    BirdProcess bird_;
    log::Logger log_;
    bool dirty_ = true;
    bool asking_ = false;
    std::chrono::steady_clock::time_point changed_at_;
    BgpStatus status_;
    EventSource timer_;
    std::function<void()> on_status_;
};

} // namespace manx::bgp
