// SPDX-License-Identifier: Apache-2.0
#include "agent/app/config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <map>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <variant>
#include <vector>

namespace manx::app {

namespace {

constexpr std::string_view kFelixPrefix = "FELIX_";

using Target = std::variant<std::string*, bool*, uint16_t*, uint32_t*, std::optional<std::string>*,
                            std::optional<bool>*, std::optional<uint16_t>*>;

struct KeySpec {
    const char* key; // dotted path in the file
    Target target;
    std::vector<std::string> choices; // where only some words are allowed
    const char* felix = nullptr;      // the name of calico-node's variable
};

std::vector<KeySpec> keys(AgentConfig& c) {
    auto& shared = c.shared;
    return {
        {"nodeName", &c.node_name, {}},
        {"datastore.type", &c.datastore_type, {"sqlite"}},
        {"datastore.path", &c.datastore_path, {}},
        {"runDir", &c.run_dir, {}},
        {"stateDir", &c.state_dir, {}},
        {"bpffs", &c.bpffs, {}},
        {"cni.socket", &c.cni_socket, {}},
        {"cni.mtu", &c.mtu, {}},
        {"ipam.leakGraceSeconds", &c.leak_grace_seconds, {}},
        {"uplinks", &c.uplinks, {}},
        {"bird.enabled", &c.bird_enabled, {}},
        {"bird.path", &c.bird_path, {}},
        {"bird.control", &c.bird_control_path, {}},
        {"metrics.address", &c.metrics_address, {}},
        {"metrics.port", &c.metrics_port, {}},
        {"health.address", &c.health_address, {}},
        {"health.port", &c.health_port, {}},
        {"logLevel",
         &shared.log_level,
         {"trace", "debug", "info", "warn", "error", "off"},
         "LOGSEVERITYSCREEN"},
        {"defaultEndpointToHostAction",
         &shared.default_endpoint_to_host_action,
         {"Accept", "Return", "Drop"},
         "DEFAULTENDPOINTTOHOSTACTION"},
        {"bpf.clsact", &c.attach_clsact, {}},
        {"bpf.netfilter", &c.use_netfilter, {}},
        {"bpf.flowTableSize", &c.flow_table_size, {}},
        {"policy.cutFlows", &c.cut_flows_on_policy_change, {}},
        {"policy.allowVXLANFromWorkloads",
         &shared.allow_vxlan_from_workloads,
         {},
         "ALLOWVXLANPACKETSFROMWORKLOADS"},
        {"policy.allowIPIPFromWorkloads",
         &shared.allow_ipip_from_workloads,
         {},
         "ALLOWIPIPPACKETSFROMWORKLOADS"},
        {"policy.vxlanPort", &shared.vxlan_port, {}, "VXLANPORT"},
        {"wireguard.hostEncryption",
         &c.wireguard_host_encryption,
         {},
         "WIREGUARDHOSTENCRYPTIONENABLED"},
    };
}

template <typename T>
Result<void> set_number(T* out, const std::string& where, const std::string& text) {
    T value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc{} || end != text.data() + text.size() || text.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: \"{}\": expected a number from 0 to {}", where, text,
                                std::numeric_limits<T>::max()));
    }
    *out = value;
    return {};
}

Result<void> set_value(std::string* out, const std::string& /*where*/, const std::string& text) {
    *out = text;
    return {};
}

Result<void> set_value(bool* out, const std::string& where, const std::string& text) {
    if (text != "true" && text != "false") {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: \"{}\": expected true or false", where, text));
    }
    *out = text == "true";
    return {};
}

template <typename T>
    requires std::is_integral_v<T>
Result<void> set_value(T* out, const std::string& where, const std::string& text) {
    return set_number(out, where, text);
}

template <typename T>
Result<void> set_value(std::optional<T>* out, const std::string& where, const std::string& text) {
    T value{};
    TRY(set_value(&value, where, text));
    *out = std::move(value);
    return {};
}

Result<void> set(const KeySpec& spec, const std::string& where, const std::string& text) {
    if (!spec.choices.empty() && std::ranges::find(spec.choices, text) == spec.choices.end()) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("{}: \"{}\": expected one of {}", where,
                                                          text, fmt::join(spec.choices, ", ")));
    }
    return std::visit([&](auto* target) { return set_value(target, where, text); }, spec.target);
}

bool same_letters(std::string_view a, std::string_view b) {
    return std::ranges::equal(
        a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// A value as calico-node reads it, in the words of the key; what is none of its words stays as it
// is, for set() to refuse.
std::string translated(const KeySpec& spec, const std::string& text) {
    if (std::holds_alternative<std::optional<bool>*>(spec.target) ||
        std::holds_alternative<bool*>(spec.target)) {
        for (const char* word : {"true", "1", "yes", "y", "t"}) {
            if (same_letters(word, text)) {
                return "true";
            }
        }
        for (const char* word : {"false", "0", "no", "n", "f"}) {
            if (same_letters(word, text)) {
                return "false";
            }
        }
    }
    if (spec.key == std::string_view("logLevel")) {
        auto level = log_level_of(text);
        return level.empty() ? text : level;
    }
    for (const auto& choice : spec.choices) {
        if (same_letters(choice, text)) {
            return choice;
        }
    }
    return text;
}

void flatten(const YAML::Node& node, const std::string& prefix,
             std::map<std::string, std::string>& out) {
    for (const auto& item : node) {
        auto key = item.first.as<std::string>();
        auto path = prefix.empty() ? key : prefix + "." + key;
        if (item.second.IsMap()) {
            flatten(item.second, path, out);
        } else {
            out[path] = item.second.IsNull() ? "" : item.second.as<std::string>();
        }
    }
}

Result<std::map<std::string, std::string>> read_file(const std::string& path) {
    std::map<std::string, std::string> values;
    try {
        auto root = YAML::LoadFile(path);
        if (!root.IsMap() && !root.IsNull()) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: expected a YAML mapping of keys", path));
        }
        if (root.IsMap()) {
            flatten(root, "", values);
        }
    } catch (const YAML::BadFile&) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("{}: cannot be read", path));
    } catch (const YAML::Exception& e) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("{}: {}", path, e.what()));
    }
    return values;
}

std::string variable_of(std::string_view key) {
    std::string name = "MANX_";
    for (char c : key) {
        name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return name;
}

std::string default_node_name() {
    std::array<char, 256> buf{};
    (void)gethostname(buf.data(), buf.size() - 1); // an empty name is reported below
    return buf.data();
}

} // namespace

std::string log_level_of(std::string_view severity) {
    // Fatal still shows errors: here an error is what somebody must act on.
    constexpr std::array<std::pair<const char*, const char*>, 6> kWords{{{"trace", "trace"},
                                                                         {"debug", "debug"},
                                                                         {"info", "info"},
                                                                         {"warning", "warn"},
                                                                         {"error", "error"},
                                                                         {"fatal", "error"}}};
    for (const auto& [theirs, ours] : kWords) {
        if (same_letters(theirs, severity)) {
            return ours;
        }
    }
    return {};
}

std::optional<std::string> process_environment(const std::string& name) {
    if (const char* value = std::getenv(name.c_str())) {
        return value;
    }
    if (name.starts_with(kFelixPrefix)) {
        for (char** at = environ; *at != nullptr; ++at) {
            const std::string_view entry = *at;
            const auto end = entry.find('=');
            if (end != std::string_view::npos && same_letters(entry.substr(0, end), name)) {
                return std::string(entry.substr(end + 1));
            }
        }
    }
    return std::nullopt;
}

Result<AgentConfig> load_config(const std::string& path, const Environment& env) {
    AgentConfig config;
    auto specs = keys(config);
    std::map<std::string, std::string> values;
    if (!path.empty()) {
        TRY_ASSIGN(values, read_file(path));
    }
    for (const auto& [key, text] : values) {
        auto spec = std::ranges::find_if(specs, [&](const KeySpec& s) { return key == s.key; });
        if (spec == specs.end()) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: {}: no such key; see docs/operations.md", path, key));
        }
        TRY(set(*spec, fmt::format("{}: {}", path, key), text));
    }
    for (const auto& spec : specs) {
        if (spec.felix != nullptr) {
            const auto name = std::string(kFelixPrefix) + spec.felix;
            if (auto text = env(name); text && !text->empty()) {
                TRY(set(spec, name, translated(spec, *text)));
            }
        }
        auto name = variable_of(spec.key);
        if (auto text = env(name)) {
            TRY(set(spec, name, *text));
        }
    }
    if (config.node_name.empty()) {
        config.node_name = env("NODENAME").value_or(default_node_name());
    }
    std::ranges::transform(config.node_name, config.node_name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (config.node_name.empty()) {
        return fail(ErrorKind::ConfigInvalid, "nodeName: expected a name, and the host has none");
    }
    if (config.cni_socket.empty()) {
        config.cni_socket = config.run_dir + "/cni.sock";
    }
    if (config.bird_control_path.empty()) {
        config.bird_control_path = config.run_dir + "/bird.ctl";
    }
    return config;
}

} // namespace manx::app
