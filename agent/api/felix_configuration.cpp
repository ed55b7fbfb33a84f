// SPDX-License-Identifier: Apache-2.0
#include "agent/api/felix_configuration.h"

#include "agent/api/fields.h"
#include "agent/api/selector.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>
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
    fn("floatingIPs", &Config::floating_ips);
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

constexpr const char* kNodeSelector = "nodeSelector";

// Fields of words. closed: the one that opens nothing, where that is the question.
struct Words {
    std::string_view field;
    std::vector<std::string_view> words;
    std::optional<std::string> closed;
};

const std::vector<Words>& words() {
    static const std::vector<Words> kAll{
        {"defaultEndpointToHostAction", {"Drop", "Accept", "Return"}, "Drop"},
        {"workloadSourceSpoofing", {"Disabled", "Any"}, "Disabled"},
        {"floatingIPs", {"Disabled", "Enabled"}, "Disabled"},
        {"logSeverityScreen", {"Trace", "Debug", "Info", "Warning", "Error", "Fatal"}, {}}};
    return kAll;
}

const Words* words_of(std::string_view field) {
    auto found = std::ranges::find(words(), field, &Words::field);
    return found == words().end() ? nullptr : &*found;
}

bool same_letters(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

// One of the field's words, however it is spelled; an empty one says nothing.
void check(std::optional<std::string>& value, const char* name, const Fields& fields) {
    const Words* known = words_of(name);
    if (known == nullptr || !value) {
        return;
    }
    auto found = std::ranges::find_if(
        known->words, [&](std::string_view word) { return same_letters(word, *value); });
    if (found != known->words.end()) {
        value = std::string(*found);
        return;
    }
    if (!value->empty()) {
        fields.wrong(
            name, fmt::format("\"{}\": expected one of {}", *value, fmt::join(known->words, ", ")));
    }
    value.reset();
}

template <typename T>
void check(std::optional<T>& /*value*/, const char* /*name*/, const Fields& /*fields*/) {
}

// What a field says that opens nothing; absent for those that have no such value.
std::optional<std::string> closed(const char* name, const std::optional<std::string>& /*type*/) {
    const Words* known = words_of(name);
    return known != nullptr ? known->closed : std::nullopt;
}

std::optional<bool> closed(const char* name, const std::optional<bool>& /*type*/) {
    return std::string_view(name).starts_with("allow") ? std::optional(false) : std::nullopt;
}

template <typename Number>
std::optional<Number> closed(const char* /*name*/, const std::optional<Number>& /*type*/) {
    return std::nullopt;
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
            if (same_letters(name, field)) {
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
    (void)Fields(&object, "", problems).at("spec"); // an object, if it is there
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    // Each field for itself: what is wrong with one says nothing about another.
    auto read = [&](const char* name, auto fn) {
        Problems own{problems.subject, {}};
        fn(Fields(&object, "", own).at("spec"), own);
        if (own.first) {
            config.problems.push_back({name, own.first->message});
        }
    };
    read(kNodeSelector, [&](const Fields& spec, Problems&) {
        spec.get(kNodeSelector, config.node_selector);
        if (auto selector = Selector::parse(config.node_selector); !selector) {
            spec.wrong(kNodeSelector, selector.error().message);
            config.node_selector.clear();
        }
    });
    for_each_field([&](const char* name, auto member) {
        auto& field = config.*member;
        read(name, [&](const Fields& spec, Problems& own) {
            if (const auto* text = override_of(config.meta, name)) {
                json holder = {{name, typed(*text, field)}};
                const Fields fields(&holder, fmt::format("annotation {}", kOverride), own);
                fields.get(name, field);
                check(field, name, fields);
            } else {
                spec.get(name, field);
                check(field, name, spec);
            }
            if (own.first) {
                field.reset();
            }
        });
    });
    return config;
}

Result<void> FelixConfiguration::validate() const {
    return problems.empty() ? Result<void>{}
                            : fail(ErrorKind::ConfigInvalid, problems.front().text);
}

void FelixConfiguration::keep_unread(const FelixConfiguration* last) {
    auto is_unread = [this](std::string_view name) {
        return std::ranges::find(problems, name, &Problem::field) != problems.end();
    };
    if (last != nullptr && is_unread(kNodeSelector)) {
        node_selector = last->node_selector;
    }
    for_each_field([&](const char* name, auto member) {
        if (is_unread(name)) {
            this->*member = last != nullptr ? last->*member : closed(name, this->*member);
        }
    });
}

bool speaks_for(const FelixConfiguration& config, const std::string& node,
                const StringMap& labels) {
    const auto& name = config.meta.name;
    if (name == "default" || name.starts_with("node.")) {
        return name == "default" || name == "node." + node;
    }
    auto selector = Selector::parse(config.node_selector);
    return !config.node_selector.empty() && selector && selector->matches(labels);
}

FelixConfiguration effective_felix_configuration(std::span<const FelixConfiguration> all,
                                                 const std::string& node, const StringMap& labels) {
    const FelixConfiguration* general = nullptr;
    const FelixConfiguration* selected = nullptr;
    const FelixConfiguration* own = nullptr;
    for (const auto& config : all) {
        const auto& name = config.meta.name;
        auto age = [](const FelixConfiguration& c) {
            return std::tie(c.meta.creation_timestamp, c.meta.name);
        };
        if (!speaks_for(config, node, labels)) {
            continue;
        }
        if (name == "default") {
            general = &config;
        } else if (name.starts_with("node.")) {
            own = &config;
        } else if (selected == nullptr || age(config) < age(*selected)) {
            selected = &config;
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
