// SPDX-License-Identifier: Apache-2.0
// Which columns `get` shows of which kind.
#pragma once

#include "agent/api/kind.h"
#include "agent/ctl/table.h"

#include <nlohmann/json_fwd.hpp>

namespace manx::ctl {

// What the columns need besides the object.
struct ColumnContext {
    std::string cluster_as_number = "64512"; // of nodes that have none of their own
};

TableRow column_names(api::Kind kind, bool wide);
// object: in the v3 form where it is Calico's.
TableRow column_values(api::Kind kind, bool wide, const nlohmann::json& object,
                       const ColumnContext& context);

// WorkloadEndpoint, which exists only as a view of pods.
TableRow endpoint_column_names(bool wide);
TableRow endpoint_column_values(bool wide, const nlohmann::json& pod); // empty: no endpoint

} // namespace manx::ctl
