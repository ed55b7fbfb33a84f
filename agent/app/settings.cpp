// SPDX-License-Identifier: Apache-2.0
#include "agent/app/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace manx::app {

namespace {

// The first that says something.
template <typename T>
void choose(T& out, const std::optional<T>& own, const std::optional<T>& objects) {
    if (own || objects) {
        out = own ? *own : *objects;
    }
}

} // namespace

std::string Settings::text() const {
    return fmt::format("defaultEndpointToHostAction={} allowVXLAN={} allowIPIP={} vxlanPort={} "
                       "logLevel={}",
                       default_endpoint_to_host_action, allow_vxlan_from_workloads,
                       allow_ipip_from_workloads, vxlan_port, log_level);
}

manx_config with_settings(manx_config config, const Settings& settings, bool cut_flows) {
    config.flags = 0;
    auto set = [&config](bool wanted, manx_config_flags flag) {
        config.flags |= wanted ? static_cast<uint32_t>(flag) : 0U;
    };
    set(settings.default_endpoint_to_host_action == "Drop", MANX_CONFIG_HOST_DROP);
    set(cut_flows, MANX_CONFIG_REJUDGE);
    set(settings.allow_vxlan_from_workloads, MANX_CONFIG_ALLOW_VXLAN);
    set(settings.allow_ipip_from_workloads, MANX_CONFIG_ALLOW_IPIP);
    config.vxlan_port = settings.vxlan_port;
    return config;
}

std::vector<std::string> SettingsSource::upsert(api::FelixConfiguration object) {
    auto known = std::ranges::find(objects_, object.meta.name,
                                   [](const auto& one) -> const auto& { return one.meta.name; });
    object.keep_unread(known == objects_.end() ? nullptr : &*known);
    std::vector<std::string> problems;
    for (auto& problem : object.problems) {
        problems.push_back(std::move(problem.text));
    }
    object.problems.clear();
    if (known == objects_.end()) {
        objects_.push_back(std::move(object));
    } else {
        *known = std::move(object);
    }
    return problems;
}

void SettingsSource::remove(const std::string& name) {
    std::erase_if(objects_, [&](const auto& one) { return one.meta.name == name; });
}

std::map<std::string, std::vector<api::NotEnforced>> SettingsSource::not_enforced() const {
    std::map<std::string, std::vector<api::NotEnforced>> out;
    for (const auto& object : objects_) {
        auto& fields = out[object.meta.name];
        if (api::speaks_for(object, node_name_, labels_)) {
            fields = api::not_enforced(object);
        }
    }
    return out;
}

Settings SettingsSource::current() const {
    const auto objects = api::effective_felix_configuration(objects_, node_name_, labels_);
    Settings out;
    choose(out.default_endpoint_to_host_action, own_.default_endpoint_to_host_action,
           objects.default_endpoint_to_host_action);
    choose(out.allow_vxlan_from_workloads, own_.allow_vxlan_from_workloads,
           objects.allow_vxlan_from_workloads);
    choose(out.allow_ipip_from_workloads, own_.allow_ipip_from_workloads,
           objects.allow_ipip_from_workloads);
    choose(out.vxlan_port, own_.vxlan_port, objects.vxlan_port);
    std::optional<std::string> level;
    if (objects.log_severity_screen) {
        level = log_level_of(*objects.log_severity_screen);
    }
    choose(out.log_level, own_.log_level, level);
    return out;
}

} // namespace manx::app
