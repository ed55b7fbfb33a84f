// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/result.h"

#include "agent/cni/request.h"

#include <nlohmann/json.hpp>

namespace manx::cni {

namespace {

using nlohmann::json;

Unexpected bad(const std::string& field, const std::string& expected) {
    return fail(ErrorKind::ConfigInvalid, "prevResult." + field + ": expected " + expected);
}

std::string text_or_empty(const json& object, const char* key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string{};
}

Result<std::optional<IpAddress>> gateway_of(const json& object, const char* key,
                                            const std::string& where) {
    const std::string text = text_or_empty(object, key);
    if (text.empty()) {
        return std::optional<IpAddress>{};
    }
    auto address = IpAddress::parse(text);
    if (!address) {
        return bad(where + "." + key, "an IP address, not \"" + text + "\"");
    }
    return std::optional(*address);
}

Result<ResultIp> parse_ip(const json& object, const char* address_key, const std::string& where) {
    ResultIp ip;
    const std::string text = object.is_object() ? text_or_empty(object, address_key) : "";
    auto address = InterfaceAddress::parse(text);
    if (!address) {
        return bad(where + "." + address_key,
                   "an address with its prefix length, not \"" + text + "\"");
    }
    ip.address = *address;
    TRY_ASSIGN(ip.gateway, gateway_of(object, "gateway", where));
    if (const auto it = object.find("interface"); it != object.end()) {
        if (!it->is_number_unsigned()) {
            return bad(where + ".interface", "an index");
        }
        ip.interface = it->get<size_t>();
    }
    return ip;
}

Result<void> parse_routes(const json& list, const std::string& where,
                          std::vector<ResultRoute>& out) {
    if (!list.is_array()) {
        return bad(where, "a list");
    }
    for (size_t i = 0; i < list.size(); ++i) {
        const std::string at = where + "[" + std::to_string(i) + "]";
        const std::string text = list[i].is_object() ? text_or_empty(list[i], "dst") : "";
        auto destination = Cidr::parse(text);
        if (!destination) {
            return bad(at + ".dst", "a CIDR, not \"" + text + "\"");
        }
        ResultRoute route{*destination, {}};
        TRY_ASSIGN(route.gateway, gateway_of(list[i], "gw", at));
        out.push_back(route);
    }
    return {};
}

// The shape of 0.1.0 and 0.2.0: one address of each family, routes inside.
Result<void> parse_old(const json& object, const char* key, AddResult& result) {
    const auto it = object.find(key);
    if (it == object.end()) {
        return {};
    }
    TRY_ASSIGN(auto ip, parse_ip(*it, "ip", key));
    result.ips.push_back(ip);
    if (const auto routes = it->find("routes"); routes != it->end()) {
        TRY(parse_routes(*routes, std::string(key) + ".routes", result.routes));
    }
    return {};
}

json render_routes(const std::vector<ResultRoute>& routes, std::optional<Family> family) {
    json out = json::array();
    for (const auto& route : routes) {
        if (family && route.destination.family() != *family) {
            continue;
        }
        json one = {{"dst", route.destination.text()}};
        if (route.gateway) {
            one["gw"] = route.gateway->text();
        }
        out.push_back(std::move(one));
    }
    return out;
}

json dns_of(const AddResult& result) {
    json dns = json::parse(result.dns, nullptr, false);
    return dns.is_object() ? dns : json::object();
}

json render_old(const AddResult& result) {
    json out = {{"dns", dns_of(result)}};
    for (const Family family : kFamilies) {
        for (const auto& ip : result.ips) {
            if (ip.address.address.family() != family) {
                continue;
            }
            json one = {{"ip", ip.address.text()}};
            if (ip.gateway) {
                one["gateway"] = ip.gateway->text();
            }
            if (json routes = render_routes(result.routes, family); !routes.empty()) {
                one["routes"] = std::move(routes);
            }
            out[family == Family::V4 ? "ip4" : "ip6"] = std::move(one);
            break;
        }
    }
    return out;
}

json render_new(std::string_view version, const AddResult& result) {
    json interfaces = json::array();
    for (const auto& interface : result.interfaces) {
        json one = {{"name", interface.name}};
        if (!interface.mac.empty()) {
            one["mac"] = interface.mac;
        }
        if (interface.mtu != 0 && at_least(version, "1.1.0")) {
            one["mtu"] = interface.mtu;
        }
        if (!interface.sandbox.empty()) {
            one["sandbox"] = interface.sandbox;
        }
        interfaces.push_back(std::move(one));
    }
    json ips = json::array();
    for (const auto& ip : result.ips) {
        json one = {{"address", ip.address.text()}};
        if (!at_least(version, "1.0.0")) {
            one["version"] = ip.address.address.is_v4() ? "4" : "6";
        }
        if (ip.gateway) {
            one["gateway"] = ip.gateway->text();
        }
        if (ip.interface) {
            one["interface"] = *ip.interface;
        }
        ips.push_back(std::move(one));
    }
    json out = {
        {"interfaces", std::move(interfaces)}, {"ips", std::move(ips)}, {"dns", dns_of(result)}};
    if (json routes = render_routes(result.routes, std::nullopt); !routes.empty()) {
        out["routes"] = std::move(routes);
    }
    return out;
}

} // namespace

Result<AddResult> parse_result(const json& object) {
    AddResult result;
    if (!object.is_object()) {
        return fail(ErrorKind::ConfigInvalid, "prevResult: expected an object");
    }
    if (const auto dns = object.find("dns"); dns != object.end() && dns->is_object()) {
        result.dns = dns->dump(-1, ' ', false, json::error_handler_t::replace);
    }
    TRY(parse_old(object, "ip4", result));
    TRY(parse_old(object, "ip6", result));
    if (const auto list = object.find("interfaces"); list != object.end()) {
        if (!list->is_array()) {
            return bad("interfaces", "a list");
        }
        for (const auto& one : *list) {
            if (!one.is_object() || text_or_empty(one, "name").empty()) {
                return bad("interfaces", "objects with a name");
            }
            ResultInterface interface{text_or_empty(one, "name"), text_or_empty(one, "mac"), 0,
                                      text_or_empty(one, "sandbox")};
            if (const auto mtu = one.find("mtu"); mtu != one.end() && mtu->is_number_unsigned()) {
                interface.mtu = mtu->get<uint32_t>();
            }
            result.interfaces.push_back(std::move(interface));
        }
    }
    if (const auto list = object.find("ips"); list != object.end()) {
        if (!list->is_array()) {
            return bad("ips", "a list");
        }
        for (size_t i = 0; i < list->size(); ++i) {
            TRY_ASSIGN(auto ip, parse_ip((*list)[i], "address", "ips[" + std::to_string(i) + "]"));
            if (ip.interface && *ip.interface >= result.interfaces.size()) {
                return bad("ips[" + std::to_string(i) + "].interface", "an index of interfaces");
            }
            result.ips.push_back(ip);
        }
    }
    if (const auto list = object.find("routes"); list != object.end()) {
        TRY(parse_routes(*list, "routes", result.routes));
    }
    return result;
}

std::string render_result(std::string_view version, const AddResult& result) {
    json out = at_least(version, "0.3.0") ? render_new(version, result) : render_old(result);
    out["cniVersion"] = version;
    return out.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

AddResult append(AddResult previous, AddResult own) {
    const size_t offset = previous.interfaces.size();
    for (auto& interface : own.interfaces) {
        previous.interfaces.push_back(std::move(interface));
    }
    for (auto& ip : own.ips) {
        if (ip.interface) {
            *ip.interface += offset;
        }
        previous.ips.push_back(ip);
    }
    previous.routes.insert(previous.routes.end(), own.routes.begin(), own.routes.end());
    return previous;
}

} // namespace manx::cni
