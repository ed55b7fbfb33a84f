// SPDX-License-Identifier: Apache-2.0
// What the policy commands work on: the objects of the datastore (with those of a manifest put in
// or taken away), and calculators that compile them as the agent does.
#pragma once

#include "agent/calc/policy_calculator.h"
#include "agent/ctl/context.h"
#include "base/ip.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace manx::ctl {

using PolicyObjects = std::map<datastore::Key, nlohmann::json>;

// Everything that policy needs, from the datastore.
Result<PolicyObjects> read_policy_objects(Context& context);
// Puts the objects of these files in, or takes those that they name away.
Result<void> put_manifests(PolicyObjects& objects, Context& context,
                           const std::vector<std::string>& files);
Result<void> take_manifests(PolicyObjects& objects, Context& context,
                            const std::vector<std::string>& files);

// A calculator that was fed with all objects and flushed. The pods that have one of the addresses
// are workloads of its node, so that it can judge them. What is invalid is named on err, unless
// err is null.
std::unique_ptr<calc::PolicyCalculator>
compile(const PolicyObjects& objects, const std::set<IpAddress>& workloads, std::ostream* err);

// "ns/name" of the pod that has the address; empty: none known.
class PodNames {
public:
    explicit PodNames(const PolicyObjects& objects);
    [[nodiscard]] std::string of(const IpAddress& address) const;

private:
    std::map<IpAddress, std::string> names_;
};

// Names of rules by number: as the agent of this node says; where none answers, as the objects say.
class RuleNames {
public:
    RuleNames(const std::string& agent_socket, const calc::PolicyCalculator& calculator);
    // "rule NetworkPolicy ns/name ingress[0]"; "no rule" for 0.
    [[nodiscard]] std::string of(uint32_t number) const;

private:
    std::map<uint32_t, std::string> names_;
};

} // namespace manx::ctl
