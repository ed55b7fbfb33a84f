// SPDX-License-Identifier: Apache-2.0
// BGP's state for people and for metrics.
#pragma once

#include "agent/bgp/manager.h"
#include "agent/metrics/registry.h"

#include <nlohmann/json_fwd.hpp>

namespace manx::app {

nlohmann::json to_json(const bgp::BgpStatus& status);
void collect_bgp(const bgp::BgpStatus& status, metrics::Registry::Families& out);

} // namespace manx::app
