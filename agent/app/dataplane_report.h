// SPDX-License-Identifier: Apache-2.0
// What the BPF tables say of packets and flows, read when somebody asks: totals by hook and reason,
// drops by device, live flows.
#pragma once

#include "agent/metrics/registry.h"
#include "loader/loader.h"

#include <nlohmann/json_fwd.hpp>

namespace manx::app {

class DataplaneReport {
public:
    explicit DataplaneReport(const loader::Loader& loader) : loader_(loader) {}

    void collect(metrics::Registry::Families& out) const;
    // {"from_workload": {"pass_redirect_peer": {"packets": n, "bytes": n}, ...}, ...}
    [[nodiscard]] nlohmann::json totals() const;

private:
    const loader::Loader& loader_;
};

} // namespace manx::app
