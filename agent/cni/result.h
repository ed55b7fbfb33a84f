// SPDX-License-Identifier: Apache-2.0
// The result of ADD, in the shapes of all versions of the CNI specification.
#pragma once

#include "base/ip.h"
#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manx::cni {

struct ResultInterface {
    std::string name;
    std::string mac;
    uint32_t mtu = 0;    // 0: not said
    std::string sandbox; // empty: on the node
};

struct ResultIp {
    InterfaceAddress address;
    std::optional<IpAddress> gateway;
    std::optional<size_t> interface; // index
};

struct ResultRoute {
    Cidr destination;
    std::optional<IpAddress> gateway;
};

struct AddResult {
    std::vector<ResultInterface> interfaces;
    std::vector<ResultIp> ips;
    std::vector<ResultRoute> routes;
    std::string dns; // JSON of the dns object, as an earlier plugin gave it; empty: none
};

// A prevResult, of any version. ConfigInvalid names the field.
Result<AddResult> parse_result(const nlohmann::json& json);
// One line, in the version's shape.
std::string render_result(std::string_view version, const AddResult& result);
// What a plugin in the middle of a chain answers: what was there, then its own.
AddResult append(AddResult previous, AddResult own);

} // namespace manx::cni
