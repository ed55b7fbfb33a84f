// SPDX-License-Identifier: Apache-2.0
// From endpoints and objects to enforced packets: attaches programs to workloads' devices, feeds
// the policy calculator, and writes its result into the tables.
//
// An endpoint is enforced when both of its hooks are attached and its addresses, classes and
// policy are in the tables. Programs come first and go last, with the device: one with programs and
// without a table entry drops whatever the workload sends, so there is no moment without policy.
// Nothing is written before the first complete snapshot of the datastore; what an earlier agent
// wrote stays in force until then.
//
// Threading: the loop's thread, but for what the sink says is called on a worker.
#pragma once

#include "agent/app/enforce_waiters.h"
#include "agent/calc/policy_calculator.h"
#include "agent/cni/endpoint_sink.h"
#include "agent/dataplane/policy_tables.h"
#include "base/event_loop.h"
#include "loader/loader.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace manx::app {

class Enforcer final : public cni::EndpointSink {
public:
    Enforcer(EventLoop& loop, loader::Loader& loader, dataplane::PolicyTables& tables,
             const std::string& node_name, bool cut_flows)
        : loop_(loop), loader_(loader), tables_(tables), calculator_({.node_name = node_name}),
          cut_flows_(cut_flows) {}

    Result<void> prepare(uint32_t ifindex) override;
    Result<std::vector<std::string>> missing_programs(uint32_t ifindex) override;
    void clean_up(uint32_t ifindex) override;
    void enforce(const dataplane::LocalEndpoint& endpoint, Done done) override;
    void forget(const std::string& interface) override;

    [[nodiscard]] calc::PolicyCalculator& calculator() { return calculator_; }

    [[nodiscard]] const calc::PolicyCalculator& calculator() const { return calculator_; }

    // After the calculator was fed. complete: every kind's snapshot is in.
    void datastore_changed(bool complete);

    [[nodiscard]] const std::map<std::string, dataplane::LocalEndpoint>& endpoints() const {
        return endpoints_;
    }

    // Why the tables are not as they should be; empty: they are.
    [[nodiscard]] const std::string& trouble() const { return trouble_; }

    [[nodiscard]] bool complete() const { return complete_; }

    // When the last update of the tables was calculated.
    [[nodiscard]] std::chrono::steady_clock::time_point calculated() const { return calculated_; }

private:
    using Clock = std::chrono::steady_clock;

    void flush();
    void flush_soon();
    void collect();
    void collect_later();
    void retry_at(Clock::time_point time);
    void retry_later();
    [[nodiscard]] bool in_force(const std::string& interface) const;
    void bump_epochs(bool done);
    Result<void> write_tables();
    void reset_counters();

    EventLoop& loop_;
    loader::Loader& loader_;
    dataplane::PolicyTables& tables_;
    calc::PolicyCalculator calculator_;
    std::map<std::string, dataplane::LocalEndpoint> endpoints_; // by device name
    EnforceWaiters waiting_;
    std::string trouble_;
    bool cut_flows_;
    bool complete_ = false;
    bool endpoints_changed_ = false;
    bool policy_changed_ = false; // in the tables, since the flows' policy was last bumped
    bool flush_posted_ = false;
    std::chrono::steady_clock::time_point calculated_;
    EventSource retry_;
    std::chrono::seconds retry_after_{1}; // doubled by each failure
    Clock::time_point retry_at_;          // not before, while the tables are behind
    Clock::time_point tried_;
    EventSource collect_;                                        // to come
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); // for what is posted
};

} // namespace manx::app
