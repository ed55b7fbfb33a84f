// SPDX-License-Identifier: Apache-2.0
#include "agent/api/tier.h"

#include "agent/api/policy_reader.h"

#include <algorithm>
#include <array>
#include <utility>

namespace manx::api {

std::span<const Tier> builtin_tiers() {
    static const std::array<Tier, 3> kTiers{Tier{"kube-admin", 1000, true, {}},
                                            Tier{"default", 1'000'000, false, {}},
                                            Tier{"kube-baseline", 10'000'000, true, {}}};
    return kTiers;
}

Result<Tier> Tier::from_json(const nlohmann::json& object) {
    TRY_ASSIGN(const PolicyName id, read_policy_name(Kind::Tier, object));
    Tier tier;
    tier.name = id.name;
    ReadProblems problems;
    const Cursor spec = Cursor(&object, "", problems).at("spec");
    tier.order = spec.at("order").number();
    if (!problems.all.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("Tier {}: {}", tier.name, problems.all.front()));
    }
    const std::string action = spec.at("defaultAction").text();
    if (action == "Pass") {
        tier.pass = true;
    } else if (!action.empty() && action != "Deny") {
        spec.at("defaultAction").wrong("expected Deny or Pass");
    }
    // The order of a built-in tier is part of its meaning: repaired on every read. What happens at
    // its end is not: an object that does not say denies, as that of any tier does.
    const auto builtin = builtin_tiers();
    const auto found = std::ranges::find(builtin, tier.name, &Tier::name);
    if (found != builtin.end()) {
        tier.order = found->order;
    }
    tier.problems = std::move(problems.all);
    return tier;
}

} // namespace manx::api
