// SPDX-License-Identifier: Apache-2.0
// Tier: a group of policies that is evaluated as one, with what happens to a packet that reaches
// its end. The built-in tiers exist whether or not the datastore holds them.
#pragma once

#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace manx::api {

struct Tier {
    std::string name;
    std::optional<double> order;       // none: after all that have one
    bool pass = false;                 // defaultAction Pass; else Deny
    std::vector<std::string> problems; // "field: what was expected"

    // ConfigInvalid where its place among the others is not known. A default action that is not
    // known reads as Deny, with a problem: for the caller to keep an earlier state in force
    // instead.
    static Result<Tier> from_json(const nlohmann::json& object);

    bool operator==(const Tier&) const = default;
};

// kube-admin, default, kube-baseline, as they are where the datastore does not hold them.
std::span<const Tier> builtin_tiers();

} // namespace manx::api
