// SPDX-License-Identifier: Apache-2.0
#include "agent/api/felix_configuration.h"

#include "agent/api/fields.h"
#include "agent/api/selector.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <tuple>

namespace manx::api {

namespace {

using nlohmann::json;

constexpr std::string_view kOverride = "config.projectcalico.org/";

// The fields with the names that the object gives them, once for reading and for merging.
template <typename Fn>
void for_each_field(Fn fn) {
    using Config = FelixConfiguration;
    fn("defaultEndpointToHostAction", &Config::default_endpoint_to_host_action);
    fn("logSeverityScreen", &Config::log_severity_screen);
    fn("bpfDataIfacePattern", &Config::bpf_data_iface_pattern);
    fn("natPortRange", &Config::nat_port_range);
    fn("natOutgoingAddress", &Config::nat_outgoing_address);
    fn("natOutgoingExclusions", &Config::nat_outgoing_exclusions);
    fn("allowVXLANPacketsFromWorkloads", &Config::allow_vxlan_from_workloads);
    fn("allowIPIPPacketsFromWorkloads", &Config::allow_ipip_from_workloads);
    fn("workloadSourceSpoofing", &Config::workload_source_spoofing);
    fn("vxlanPort", &Config::vxlan_port);
    fn("vxlanVNI", &Config::vxlan_vni);
    fn("vxlanMTU", &Config::vxlan_mtu);
    fn("ipipMTU", &Config::ipip_mtu);
    fn("deviceRouteProtocol", &Config::device_route_protocol);
    fn("ipv4NormalRoutePriority", &Config::ipv4_normal_route_priority);
    fn("ipv6NormalRoutePriority", &Config::ipv6_normal_route_priority);
    fn("prometheusMetricsEnabled", &Config::prometheus_metrics_enabled);
    fn("prometheusMetricsPort", &Config::prometheus_metrics_port);
    fn("healthEnabled", &Config::health_enabled);
    fn("healthPort", &Config::health_port);
}

// The value of an annotation as the JSON that the field would hold.
json typed(std::string_view text, const std::optional<std::string>& /*type*/) {
    return std::string(text);
}

json typed(std::string_view text, const std::optional<bool>& /*type*/) {
    return text == "true" || text == "True"     ? json(true)
           : text == "false" || text == "False" ? json(false)
                                                : json(std::string(text));
}

template <typename Number>
json typed(std::string_view text, const std::optional<Number>& /*type*/) {
    uint64_t value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    bool good = ec == std::errc{} && end == text.data() + text.size() && !text.empty();
    return good ? json(value) : json(std::string(text));
}

const std::string* override_of(const ObjectMeta& meta, std::string_view field) {
    for (const auto& [key, value] : meta.annotations) {
        std::string_view name = key;
        if (name.starts_with(kOverride)) {
            name.remove_prefix(kOverride.size());
            auto same = [](char a, char b) { return (a | 0x20) == (b | 0x20); };
            if (std::ranges::equal(name, field, same)) {
                return &value;
            }
        }
    }
    return nullptr;
}

} // namespace

Result<FelixConfiguration> FelixConfiguration::from_json(const json& object) {
    Problems problems{subject_of(Kind::FelixConfiguration, object), {}};
    FelixConfiguration config;
    config.meta = read_meta(Kind::FelixConfiguration, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("nodeSelector", config.node_selector);
    for_each_field([&](const char* name, auto member) {
        auto& field = config.*member;
        if (const auto* text = override_of(config.meta, name)) {
            json holder = {{name, typed(*text, field)}};
            Fields(&holder, fmt::format("annotation {}", kOverride), problems).get(name, field);
        } else {
            spec.get(name, field);
        }
    });
    const auto& action = config.default_endpoint_to_host_action;
    if (action && *action != "Drop" && *action != "Accept" && *action != "Return") {
        spec.wrong("defaultEndpointToHostAction",
                   fmt::format("\"{}\": expected Drop, Accept or Return", *action));
    }
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return config;
}

FelixConfiguration effective_felix_configuration(std::span<const FelixConfiguration> all,
                                                 const std::string& node, const StringMap& labels) {
    const FelixConfiguration* general = nullptr;
    const FelixConfiguration* selected = nullptr;
    const FelixConfiguration* own = nullptr;
    for (const auto& config : all) {
        const auto& name = config.meta.name;
        if (name == "default") {
            general = &config;
        } else if (name == "node." + node) {
            own = &config;
        } else if (!name.starts_with("node.") && !config.node_selector.empty()) {
            auto selector = Selector::parse(config.node_selector);
            auto age = [](const FelixConfiguration& c) {
                return std::tie(c.meta.creation_timestamp, c.meta.name);
            };
            if (selector && selector->matches(labels) &&
                (selected == nullptr || age(config) < age(*selected))) {
                selected = &config;
            }
        }
    }
    FelixConfiguration out;
    out.meta.name = "node." + node;
    for (const auto* config : {own, selected, general}) {
        if (config == nullptr) {
            continue;
        }
        for_each_field([&](const char*, auto member) {
            if (!(out.*member)) {
                out.*member = config->*member;
            }
        });
    }
    return out;
}

} // namespace manx::api
