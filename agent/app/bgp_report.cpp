// SPDX-License-Identifier: Apache-2.0
#include "agent/app/bgp_report.h"

#include <nlohmann/json.hpp>

namespace manx::app {

nlohmann::json to_json(const bgp::BgpStatus& status) {
    nlohmann::json peers = nlohmann::json::array();
    for (const auto& peer : status.peers) {
        const auto& p = peer.protocol;
        peers.push_back({{"name", p.name},
                         {"address", p.neighbor ? p.neighbor->text() : ""},
                         {"as", p.neighbor_as},
                         {"state", p.bgp_state},
                         {"since", p.since},
                         {"imported", p.routes_imported},
                         {"exported", p.routes_exported}});
    }
    return {{"running", status.running},
            {"recovering", status.recovering},
            {"configurationInForce", status.config_in_force},
            {"error", status.error},
            {"problems", status.problems},
            {"peers", std::move(peers)}};
}

void collect_bgp(const bgp::BgpStatus& status, metrics::Registry::Families& out) {
    using metrics::gauge;
    gauge(out, "manx_bird_running", "1 when BIRD answers.", status.running ? 1 : 0);
    gauge(out, "manx_bird_configuration_in_force", "1 when BIRD runs what the objects say.",
          status.config_in_force ? 1 : 0);
    metrics::counter(out, "manx_bird_starts_total", "Starts of BIRD by this agent.",
                     static_cast<double>(status.starts));
    metrics::counter(out, "manx_bird_reconfigurations_total", "Configurations put in force.",
                     static_cast<double>(status.reconfigurations));
    for (const auto& peer : status.peers) {
        const auto& p = peer.protocol;
        metrics::Labels labels{{"peer", p.neighbor ? p.neighbor->text() : p.name},
                               {"as", std::to_string(p.neighbor_as)}};
        gauge(out, "manx_bgp_peer_established", "1 when the session is up.",
              peer.established() ? 1 : 0, labels);
        gauge(out, "manx_bgp_routes_imported", "Routes learned from the peer.",
              static_cast<double>(p.routes_imported), labels);
        gauge(out, "manx_bgp_routes_exported", "Routes announced to the peer.",
              static_cast<double>(p.routes_exported), labels);
    }
}

} // namespace manx::app
