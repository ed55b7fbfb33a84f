// SPDX-License-Identifier: Apache-2.0
#include "agent/app/rule_report.h"

#include <nlohmann/json.hpp>

#include <functional>

namespace manx::app {

namespace {

using Visit = std::function<void(uint32_t number, const calc::RuleName& name, uint64_t flows)>;

void each_rule(const loader::Loader& loader, const calc::PolicyCalculator& calculator,
               const Visit& visit) {
    const auto hits = loader.per_cpu_map(maps::kRuleHits);
    for (const auto& [number, name] : calculator.rules().all()) {
        uint64_t flows = 0;
        if (hits) {
            const auto counted = hits->lookup(number);
            flows = counted && *counted ? (*counted)->flows : 0;
        }
        visit(number, *name, flows);
    }
}

} // namespace

void RuleReport::collect(metrics::Registry::Families& out) const {
    each_rule(loader_, calculator_, [&](uint32_t, const calc::RuleName& name, uint64_t flows) {
        if (flows > 0) {
            metrics::counter(out, "manx_rule_flows_total",
                             "Flows that a rule decided; staged ones decide nothing.",
                             static_cast<double>(flows),
                             {{"rule", name.text()}, {"staged", name.staged ? "true" : "false"}});
        }
    });
}

nlohmann::json RuleReport::rules() const {
    nlohmann::json out = nlohmann::json::array();
    each_rule(loader_, calculator_,
              [&](uint32_t number, const calc::RuleName& name, uint64_t flows) {
                  out.push_back({{"number", number},
                                 {"rule", name.text()},
                                 {"staged", name.staged},
                                 {"flows", flows}});
              });
    return out;
}

} // namespace manx::app
