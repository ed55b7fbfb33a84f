// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/request.h"

#include "agent/netlink/link.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cctype>

namespace manx::cni {

namespace {

using nlohmann::json;

constexpr uint32_t kMinMtu = 68;
constexpr uint32_t kMaxMtu = 65535;
constexpr size_t kMaxContainerId = 128;

tl::unexpected<CniError> bad_conf(std::string message) {
    return tl::unexpected(CniError{Code::InvalidConfig, "network configuration: " + message, {}});
}

tl::unexpected<CniError> bad_env(std::string message) {
    return tl::unexpected(CniError{Code::InvalidEnvironment, std::move(message), {}});
}

// Calico's configuration writes these as strings.
std::optional<bool> as_bool(const json& value) {
    if (value.is_boolean()) {
        return value.get<bool>();
    }
    if (value.is_string()) {
        std::string text = value.get<std::string>();
        std::transform(text.begin(), text.end(), text.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        if (text == "true" || text == "false") {
            return text == "true";
        }
    }
    return std::nullopt;
}

// A key of the configuration: its value, or nothing; an error when its type is not the expected.
class Reader {
public:
    Reader(const json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

    const json* find(const char* key) const {
        const auto it = object_.find(key);
        return it == object_.end() || it->is_null() ? nullptr : &*it;
    }

    void text(const char* key, std::string& out) {
        if (const json* value = find(key)) {
            if (value->is_string()) {
                out = value->get<std::string>();
            } else {
                wrong(key, "a string");
            }
        }
    }

    void boolean(const char* key, std::optional<bool>& out) {
        if (const json* value = find(key)) {
            out = as_bool(*value);
            if (!out) {
                wrong(key, "true or false");
            }
        }
    }

    void boolean(const char* key, bool& out) {
        std::optional<bool> value;
        boolean(key, value);
        out = value.value_or(out);
    }

    void texts(const char* key, std::vector<std::string>& out) {
        const json* value = find(key);
        if (value == nullptr) {
            return;
        }
        const bool fine =
            value->is_array() &&
            std::all_of(value->begin(), value->end(), [](const json& v) { return v.is_string(); });
        if (!fine) {
            wrong(key, "a list of strings");
            return;
        }
        out = value->get<std::vector<std::string>>();
    }

    void mtu(const char* key, uint32_t& out) {
        const json* value = find(key);
        if (value == nullptr) {
            return;
        }
        const auto number = value->is_number_integer() ? value->get<int64_t>() : -1;
        if (number == 0 || (number >= kMinMtu && number <= kMaxMtu)) {
            out = static_cast<uint32_t>(number);
        } else {
            wrong(key, "0 (the agent's), or 68 to 65535");
        }
    }

    json object(const char* key) {
        const json* value = find(key);
        if (value == nullptr) {
            return json::object();
        }
        if (!value->is_object()) {
            wrong(key, "an object");
            return json::object();
        }
        return *value;
    }

    void wrong(const std::string& key, const std::string& expected) {
        if (problem_.empty()) {
            problem_ = prefix_ + key + ": expected " + expected;
        }
    }

    [[nodiscard]] const std::string& problem() const { return problem_; }

private:
    const json& object_;
    std::string prefix_;
    std::string problem_;
};

std::string check_ipam(Reader& ipam, NetConf& conf) {
    std::string type;
    ipam.text("type", type);
    if (!type.empty() && type != "calico-ipam" && type != "manx") {
        ipam.wrong("type", "\"calico-ipam\" or \"manx\" (the agent gives the addresses), not \"" +
                               type + "\"");
    }
    ipam.boolean("assign_ipv4", conf.assign_ipv4);
    ipam.boolean("assign_ipv6", conf.assign_ipv6);
    ipam.texts("ipv4_pools", conf.pools4);
    ipam.texts("ipv6_pools", conf.pools6);
    return ipam.problem();
}

std::string parse_attachments(const json& list, NetConf& conf) {
    const std::string key = "cni.dev/valid-attachments";
    if (!list.is_array()) {
        return key + ": expected a list";
    }
    for (const auto& one : list) {
        const auto id = one.is_object() ? one.find("containerID") : one.end();
        const auto name = one.is_object() ? one.find("ifname") : one.end();
        if (!one.is_object() || id == one.end() || !id->is_string() || name == one.end() ||
            !name->is_string()) {
            return key + ": expected objects with containerID and ifname";
        }
        conf.valid_attachments.insert({id->get<std::string>(), name->get<std::string>()});
    }
    return {};
}

bool is_identifier(std::string_view text) {
    return !text.empty() && std::isalnum(static_cast<unsigned char>(text.front())) != 0 &&
           std::all_of(text.begin(), text.end(), [](unsigned char c) {
               return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
           });
}

std::optional<Command> command_of(std::string_view text) {
    for (const Command command :
         {Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status}) {
        if (to_string(command) == text) {
            return command;
        }
    }
    return std::nullopt;
}

// "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default". Unknown keys are the runtime's own business.
tl::expected<void, CniError> parse_args(std::string_view args, CniRequest& request) {
    while (!args.empty()) {
        const size_t end = std::min(args.find(';'), args.size());
        const std::string_view pair = args.substr(0, end);
        args.remove_prefix(std::min(end + 1, args.size()));
        if (pair.empty()) {
            continue;
        }
        const size_t equals = pair.find('=');
        if (equals == std::string_view::npos) {
            return bad_env("CNI_ARGS: expected NAME=value pairs separated by ';', not \"" +
                           std::string(pair) + "\"");
        }
        const std::string_view name = pair.substr(0, equals);
        const std::string value(pair.substr(equals + 1));
        if (name == "K8S_POD_NAME") {
            request.pod = value;
        } else if (name == "K8S_POD_NAMESPACE") {
            request.ns = value;
        } else if (name == "K8S_POD_UID") {
            request.pod_uid = value;
        } else if (name == "IP" && !value.empty()) {
            auto address = IpAddress::parse(value);
            if (!address) {
                return bad_env("CNI_ARGS: IP: expected an IP address, not \"" + value + "\"");
            }
            request.fixed_address = *address;
        }
    }
    if (request.pod.empty() != request.ns.empty()) {
        return bad_env("CNI_ARGS: K8S_POD_NAME and K8S_POD_NAMESPACE go together");
    }
    return {};
}

tl::expected<void, CniError> check_environment(const CniRequest& request) {
    if (request.command == Command::Gc || request.command == Command::Status) {
        return {};
    }
    const auto& id = request.attachment.container_id;
    if (id.empty()) {
        return bad_env("CNI_CONTAINERID is not set");
    }
    if (!is_identifier(id) || id.size() > kMaxContainerId) {
        return bad_env("CNI_CONTAINERID: expected letters, digits, '_', '.' and '-' (at most 128), "
                       "the first one a letter or a digit");
    }
    if (request.attachment.interface.empty()) {
        return bad_env("CNI_IFNAME is not set");
    }
    if (auto name = netlink::check_device_name(request.attachment.interface, "CNI_IFNAME"); !name) {
        return bad_env(name.error().text());
    }
    if (request.netns.empty() && request.command != Command::Del) {
        return bad_env("CNI_NETNS is not set");
    }
    return {};
}

std::string_view least_version(Command command) {
    switch (command) {
    case Command::Check:
        return "0.4.0";
    case Command::Gc:
    case Command::Status:
        return "1.1.0";
    case Command::Add:
    case Command::Del:
        break;
    }
    return "0.1.0";
}

} // namespace

std::string_view to_string(Command command) {
    switch (command) {
    case Command::Add:
        return "ADD";
    case Command::Del:
        return "DEL";
    case Command::Check:
        return "CHECK";
    case Command::Gc:
        return "GC";
    case Command::Status:
        return "STATUS";
    }
    return "?";
}

std::optional<size_t> version_rank(std::string_view version) {
    const auto* const end = std::end(kCniVersions);
    const auto* const found = std::find(std::begin(kCniVersions), end, version);
    return found == end ? std::nullopt
                        : std::optional(static_cast<size_t>(found - std::begin(kCniVersions)));
}

bool at_least(std::string_view version, std::string_view least) {
    return version_rank(version).value_or(0) >= version_rank(least).value_or(0);
}

tl::expected<NetConf, CniError> parse_conf(std::string_view text) {
    const json object = json::parse(text, nullptr, false);
    if (object.is_discarded() || !object.is_object()) {
        return tl::unexpected(CniError{Code::DecodeFailure,
                                       "network configuration: expected a JSON object on standard "
                                       "input",
                                       {}});
    }
    NetConf conf;
    Reader top(object, "");
    top.text("cniVersion", conf.version);
    if (!version_rank(conf.version)) {
        return tl::unexpected(CniError{Code::IncompatibleVersion,
                                       "cniVersion \"" + conf.version + "\" is not spoken here",
                                       "0.1.0 to " + std::string(kNewestCniVersion)});
    }
    top.text("name", conf.name);
    top.text("type", conf.type);
    top.mtu("mtu", conf.mtu);
    const json ipam_object = top.object("ipam");
    const json settings_object = top.object("container_settings");
    const json features_object = top.object("feature_control");
    Reader ipam(ipam_object, "ipam.");
    Reader settings(settings_object, "container_settings.");
    Reader features(features_object, "feature_control.");
    std::string problem = check_ipam(ipam, conf);
    settings.boolean("allow_ip_forwarding", conf.allow_ip_forwarding);
    features.boolean("ip_addrs_no_ipam", conf.ip_addrs_no_ipam);
    if (const json* list = top.find("cni.dev/valid-attachments");
        list != nullptr && problem.empty()) {
        problem = parse_attachments(*list, conf);
    }
    for (const Reader* reader : {&top, &settings, &features}) {
        if (problem.empty()) {
            problem = reader->problem();
        }
    }
    if (problem.empty() && !is_identifier(conf.name)) {
        problem = "name: expected letters, digits, '_', '.' and '-', the first one a letter or a "
                  "digit, not \"" +
                  conf.name + "\"";
    }
    if (problem.empty() && conf.assign_ipv4 == false && conf.assign_ipv6 == false) {
        problem = "ipam: assign_ipv4 and assign_ipv6 are both false";
    }
    if (problem.empty() && conf.assign_ipv6 == true && conf.mtu != 0 &&
        conf.mtu < kMinMtuWithIpv6) {
        problem = "mtu: expected at least 1280 with IPv6";
    }
    if (!problem.empty()) {
        return bad_conf(problem);
    }
    if (const json* previous = top.find("prevResult")) {
        auto parsed = parse_result(*previous);
        if (!parsed) {
            return bad_conf(parsed.error().text());
        }
        conf.previous = std::move(*parsed);
    }
    return conf;
}

std::string version_of(std::string_view conf) {
    const json object = json::parse(conf, nullptr, false);
    if (object.is_object()) {
        const auto version = object.find("cniVersion");
        if (version != object.end() && version->is_string() &&
            version_rank(version->get<std::string>())) {
            return version->get<std::string>();
        }
    }
    return "0.1.0";
}

tl::expected<CniRequest, CniError> parse_request(const WireRequest& wire) {
    CniRequest request;
    std::string command;
    std::string args;
    const std::map<std::string_view, std::string*> targets = {
        {"CNI_COMMAND", &command},
        {"CNI_CONTAINERID", &request.attachment.container_id},
        {"CNI_IFNAME", &request.attachment.interface},
        {"CNI_NETNS", &request.netns},
        {"CNI_ARGS", &args},
    };
    for (const auto& [name, value] : wire.environment) {
        if (const auto it = targets.find(name); it != targets.end()) {
            *it->second = value;
        }
    }
    const auto known = command_of(command);
    if (!known) {
        return bad_env("CNI_COMMAND: expected ADD, DEL, CHECK, GC, STATUS or VERSION, not \"" +
                       command + "\"");
    }
    request.command = *known;
    if (auto checked = check_environment(request); !checked) {
        return tl::unexpected(checked.error());
    }
    if (auto parsed = parse_args(args, request); !parsed) {
        return tl::unexpected(parsed.error());
    }
    auto conf = parse_conf(wire.input);
    if (!conf) {
        return tl::unexpected(conf.error());
    }
    request.conf = std::move(*conf);
    if (const auto least = least_version(request.command); !at_least(request.conf.version, least)) {
        return tl::unexpected(CniError{Code::IncompatibleVersion,
                                       std::string(to_string(request.command)) +
                                           " needs cniVersion " + std::string(least) +
                                           " or later, not " + request.conf.version,
                                       {}});
    }
    return request;
}

} // namespace manx::cni
