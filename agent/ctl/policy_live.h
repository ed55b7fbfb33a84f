// SPDX-License-Identifier: Apache-2.0
// The live side of policy explain: what the pinned programs and tables of this node say, and which
// of its flows other policies would not allow.
#pragma once

#include "agent/ctl/policy_world.h"
#include "agent/dataplane/flows.h"
#include "agent/dataplane/pinned_tables.h"
#include "agent/dataplane/question.h"

#include <optional>
#include <string>
#include <vector>

namespace manx::ctl {

class LiveNode {
public:
    // nullopt: no dataplane is pinned there.
    static Result<std::optional<LiveNode>> open(const std::string& bpffs);

    // Addresses of this node's workloads.
    [[nodiscard]] const std::map<IpAddress, manx_endpoint>& endpoints() const { return endpoints_; }

    [[nodiscard]] bool is_here(const IpAddress& address) const {
        return endpoints_.contains(address);
    }

    [[nodiscard]] Result<bool> is_this_host(const IpAddress& address) const;

    struct Reply {
        std::string program; // "tc_from_workload on cali0123"
        bool known_flow = false;
        dataplane::Answer answer;
    };

    // The program that would judge the flow's first packet, and what it says. nullopt: neither end
    // is here. The source port is moved where a flow has it already, if it may.
    Result<std::optional<Reply>> ask(dataplane::Question question, bool any_source_port) const;

    struct CutFlow {
        dataplane::LiveFlow flow;
        api::Direction direction{}; // that is denied
        std::string reason;
    };

    struct Cut {
        std::vector<CutFlow> flows;
        size_t looked_at = 0;
        size_t not_judged = 0; // of workloads that have no Pod object
    };

    // Flows that `before` allows and `after` does not. What is closed, or idle beyond its timeout
    // and on its way out of the tables, does not count.
    [[nodiscard]] Result<Cut> cut_by(const calc::PolicyCalculator& before,
                                     const calc::PolicyCalculator& after) const;

    // Whether a change of policy cuts flows on this node (policy.cutFlows).
    [[nodiscard]] bool cuts_flows() const { return (config_.flags & MANX_CONFIG_REJUDGE) != 0; }

private:
    [[nodiscard]] bool is_over(const dataplane::LiveFlow& flow) const;

    std::string bpffs_;
    manx_config config_{};
    std::unique_ptr<dataplane::PinnedTables> tables_;
    std::optional<dataplane::LivePrograms> programs_;
    std::map<IpAddress, manx_endpoint> endpoints_;
    std::map<uint16_t, uint32_t> slots_; // -> ifindex
    uint32_t uplink_ = 0;                // any; 0: none
};

} // namespace manx::ctl
