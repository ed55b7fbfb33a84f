// SPDX-License-Identifier: Apache-2.0
// NetworkSet and GlobalNetworkSet: labelled lists of CIDRs that selectors of rules match.
#pragma once

#include "agent/api/kind.h"
#include "agent/api/selector.h"
#include "base/ip.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace manx::api {

struct NetworkSet {
    Kind kind{};
    std::string ns; // empty: GlobalNetworkSet
    std::string name;
    LabelMap labels;
    std::vector<Cidr> nets;            // sorted, without doubles
    std::vector<std::string> problems; // nets that were left out: "field: what was expected"

    // kind: NetworkSet or GlobalNetworkSet. ConfigInvalid.
    static Result<NetworkSet> from_json(Kind kind, const nlohmann::json& object);

    [[nodiscard]] std::string text() const; // "NetworkSet ns/name"

    bool operator==(const NetworkSet&) const = default;
};

// A kind as a type of its own, for code that reads kinds by type: T::from_json(object).
template <Kind kKind>
struct NetworkSetOf : NetworkSet {
    static Result<NetworkSetOf> from_json(const nlohmann::json& object) {
        TRY_ASSIGN(NetworkSet set, NetworkSet::from_json(kKind, object));
        return NetworkSetOf{std::move(set)};
    }
};

} // namespace manx::api
