// SPDX-License-Identifier: Apache-2.0
#include "agent/app/rule_report.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <utility>
#include <vector>

namespace manx::app {

namespace {

using Visit = std::function<void(uint32_t number, const calc::RuleName& name, uint64_t flows)>;

void each_rule(const loader::Loader& loader, const calc::PolicyCalculator& calculator,
               const Visit& visit) {
    const auto rules = calculator.rules().all();
    std::vector<uint32_t> numbers;
    numbers.reserve(rules.size());
    for (const auto& [number, name] : rules) {
        numbers.push_back(number);
    }
    std::vector<manx_rule_hits> counted(rules.size()); // zero where they cannot be read
    if (const auto hits = loader.per_cpu_map(maps::kRuleHits)) {
        if (auto read = hits->lookup_many(numbers)) {
            counted = std::move(*read);
        }
    }
    for (size_t i = 0; i < rules.size(); ++i) {
        visit(rules[i].first, *rules[i].second, counted[i].flows);
    }
}

} // namespace

void RuleReport::collect(metrics::Registry::Families& out) const {
    each_rule(loader_, calculator_, [&](uint32_t, const calc::RuleName& name, uint64_t flows) {
        if (flows > 0) {
            metrics::counter(out, "manx_rule_flows_total",
                             "Flows that a rule decided (with policy.cutFlows, packets too of "
                             "flows that it cuts); staged ones decide nothing.",
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
