// SPDX-License-Identifier: Apache-2.0
#include "agent/app/node_condition.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace manx::app {

namespace {

// Empty if it is not there, or is no string.
std::string_view text_of(const nlohmann::json& object, const char* name) {
    const auto at = object.find(name);
    return at != object.end() && at->is_string()
               ? std::string_view(at->get_ref<const std::string&>())
               : std::string_view();
}

} // namespace

std::optional<nlohmann::json> with_network_condition(const nlohmann::json& node,
                                                     const NetworkState& state,
                                                     std::string_view now) {
    nlohmann::json wanted = {{"type", "NetworkUnavailable"},
                             {"status", state.available ? "False" : "True"},
                             {"reason", state.available ? "CalicoIsUp" : "CalicoIsDown"},
                             {"message", state.message},
                             {"lastHeartbeatTime", now},
                             {"lastTransitionTime", now}};
    auto changed = node;
    auto& status = changed["status"];
    if (!status.is_object()) {
        status = nlohmann::json::object();
    }
    auto& conditions = status["conditions"];
    if (!conditions.is_array()) {
        conditions = nlohmann::json::array();
    }
    auto existing = std::ranges::find_if(conditions, [](const nlohmann::json& c) {
        return c.is_object() && text_of(c, "type") == "NetworkUnavailable";
    });
    if (existing == conditions.end()) {
        conditions.push_back(std::move(wanted));
        return changed;
    }
    bool same_status = text_of(*existing, "status") == text_of(wanted, "status");
    if (same_status && text_of(*existing, "message") == state.message) {
        return std::nullopt;
    }
    if (same_status && existing->contains("lastTransitionTime")) {
        wanted["lastTransitionTime"] = (*existing)["lastTransitionTime"];
    }
    *existing = std::move(wanted);
    return changed;
}

} // namespace manx::app
