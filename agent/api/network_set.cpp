// SPDX-License-Identifier: Apache-2.0
#include "agent/api/network_set.h"

#include "agent/api/fields.h"
#include "agent/api/meta.h"
#include "agent/api/policy_reader.h"

#include <algorithm>

namespace manx::api {

std::string NetworkSet::text() const {
    return fmt::format("{} {}{}{}", info(kind).name, ns, ns.empty() ? "" : "/", name);
}

Result<NetworkSet> NetworkSet::from_json(Kind kind, const nlohmann::json& object) {
    TRY_ASSIGN(const PolicyName id, read_policy_name(kind, object));
    NetworkSet set;
    set.kind = kind;
    set.ns = id.ns;
    set.name = id.name;
    Problems problems;
    problems.subject = set.text();
    set.labels = read_meta(kind, object, problems).labels;
    if (problems.first) {
        return tl::unexpected(*problems.first);
    }
    ReadProblems wrong;
    for (const auto& item : Cursor(&object, "", wrong).at("spec").at("nets").items()) {
        if (const auto cidr = read_cidr(item)) {
            set.nets.push_back(*cidr);
        }
    }
    std::ranges::sort(set.nets);
    set.nets.erase(std::ranges::unique(set.nets).begin(), set.nets.end());
    set.nets.shrink_to_fit();
    set.problems = std::move(wrong.all);
    return set;
}

} // namespace manx::api
