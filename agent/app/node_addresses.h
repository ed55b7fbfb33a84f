// SPDX-License-Identifier: Apache-2.0
// The addresses under which this node peers and is reached: what its Node object says, completed
// with what its devices hold.
#pragma once

#include "agent/api/node.h"
#include "base/ip.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <optional>

namespace manx::app {

// The length of the subnet that an address of this host is in; nullopt: no device holds it.
using PrefixLength = std::function<std::optional<unsigned>(const IpAddress&)>;

// The node with ipv4 and ipv6 filled: kept where the Calico annotation gives them, else the first
// InternalIP of the family that a device of this host holds (Calico's method
// "kubernetes-internal-ip").
api::Node with_addresses(api::Node node, const PrefixLength& prefix_length);

// The merge patch that writes what with_addresses() added into the annotations; nullopt: nothing.
std::optional<nlohmann::json> address_patch(const api::Node& stored, const api::Node& completed);

} // namespace manx::app
