// SPDX-License-Identifier: Apache-2.0
// The rules of a policy as few bytes: most policies of a cluster apply to no workload of this node,
// and are kept only for the day on which they do.
#pragma once

#include "agent/api/policy.h"

#include <string>
#include <vector>

namespace manx::calc {

class PackedRules {
public:
    PackedRules() = default;
    explicit PackedRules(const api::Policy& policy);

    struct Rules {
        std::vector<api::PolicyRule> ingress;
        std::vector<api::PolicyRule> egress;
    };

    [[nodiscard]] Rules unpack() const;

    bool operator==(const PackedRules&) const = default;

private:
    std::string bytes_;
    std::vector<api::Selector> selectors_; // those that their text does not give back
};

} // namespace manx::calc
