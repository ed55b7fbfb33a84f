// SPDX-License-Identifier: Apache-2.0
// How often each rule decided: flows by the agent's own numbers of rules, for metrics and manxctl.
// With policy.cutFlows a flow counts again where it is judged again (maps/abi/policy.h).
#pragma once

#include "agent/calc/policy_calculator.h"
#include "agent/metrics/registry.h"
#include "loader/loader.h"

#include <nlohmann/json_fwd.hpp>

namespace manx::app {

class RuleReport {
public:
    RuleReport(const loader::Loader& loader, const calc::PolicyCalculator& calculator)
        : loader_(loader), calculator_(calculator) {}

    // manx_rule_flows_total, of the rules that have decided a flow.
    void collect(metrics::Registry::Families& out) const;
    // [{"number", "rule", "staged", "flows"}], every rule in force on this node.
    [[nodiscard]] nlohmann::json rules() const;

private:
    const loader::Loader& loader_;
    const calc::PolicyCalculator& calculator_;
};

} // namespace manx::app
