// SPDX-License-Identifier: Apache-2.0
// Which service routes this node announces (contract 5.5). Pure.
#pragma once

#include "agent/bgp/inputs.h"

#include <vector>

namespace manx::bgp {

struct ServiceRoutes {
    // Everything configured, sorted: never put into the kernel, whoever announces it.
    std::vector<Cidr> ranges;
    // What this node announces: whole ranges and single addresses, sorted, each once.
    std::vector<Cidr> announced;
};

ServiceRoutes compute_service_routes(const Inputs& inputs);

} // namespace manx::bgp
