// SPDX-License-Identifier: Apache-2.0
// The node's NetworkUnavailable condition, kept true to the facts. Reasons are Calico's, since
// people alert on them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace manx::app {

struct NetworkState {
    bool available = false;
    std::string message; // one sentence for people

    bool operator==(const NetworkState&) const = default;
};

// The node object with the condition as it should be; nullopt: it says so already. now: RFC 3339.
std::optional<nlohmann::json>
with_network_condition(const nlohmann::json& node, const NetworkState& state, std::string_view now);

} // namespace manx::app
