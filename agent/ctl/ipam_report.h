// SPDX-License-Identifier: Apache-2.0
// The report of `manxctl ipam check -o`, which `manxctl ipam release --from-report` reads: the same
// JSON as calicoctl's.
#pragma once

#include "agent/api/cluster_information.h"
#include "agent/ipam/survey.h"
#include "base/ip.h"
#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manx::ctl {

// What a report says of an allocation that may be released.
struct ReportedLeak {
    IpAddress address;
    std::string handle;
    std::optional<uint64_t> sequence_number;

    auto operator<=>(const ReportedLeak&) const = default;
};

// A handle without addresses, as it was when the report was made.
struct ReportedHandle {
    std::string id;
    std::string resource_version;

    auto operator<=>(const ReportedHandle&) const = default;
};

struct IpamReport {
    std::string version;
    std::string cluster_guid;
    std::vector<ReportedLeak> leaks; // not in use, not cooling down
    std::vector<ReportedHandle> handles;

    static Result<IpamReport> from_json(const nlohmann::json& report);
};

nlohmann::json make_report(const ipam::Snapshot& snapshot, const ipam::Survey& found,
                           const api::ClusterInformation& cluster);

// The cluster's own description; where there is none, an empty one that is not locked.
Result<api::ClusterInformation> cluster_information(datastore::Store& store);

} // namespace manx::ctl
