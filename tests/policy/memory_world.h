// SPDX-License-Identifier: Apache-2.0
// The agent's view with tables in memory, which are asked as the BPF programs ask theirs.
#pragma once

#include "tests/policy/agent_view.h"

#include <gtest/gtest.h>

namespace manx::testing_policy {

struct MemoryHolder {
    explicit MemoryHolder(dataplane::MemoryTables::Limits limits) : memory(limits) {}

    dataplane::MemoryTables memory;
};

class TableWorld : public MemoryHolder, public AgentView {
public:
    explicit TableWorld(dataplane::MemoryTables::Limits limits = {})
        : MemoryHolder(limits), AgentView(memory) {}

    void put(const json& object) {
        const auto fed = AgentView::put(object);
        EXPECT_TRUE(fed) << fed.error().text();
    }

    void flush() {
        const auto applied = AgentView::flush();
        EXPECT_TRUE(applied) << applied.error().text();
    }

    // As the BPF programs judge: both sides where both are local.
    struct Answer {
        bool egress = true;
        bool ingress = true;
    };

    [[nodiscard]] Answer ask(const oracle::Query& query) const {
        const auto side = [&](const IpAddress& own, const IpAddress& other, bool ingress) {
            const manx_endpoint* endpoint = memory.endpoint(own);
            if (endpoint == nullptr) {
                return true;
            }
            const uint32_t set = ingress ? endpoint->ingress_set : endpoint->egress_set;
            const auto verdict = memory.judge(
                set, memory.classify(other).class_id, static_cast<uint8_t>(query.protocol),
                static_cast<uint16_t>(query.source_port), static_cast<uint16_t>(query.port));
            EXPECT_FALSE(verdict.broken);
            return verdict.allow;
        };
        return {side(query.from, query.to, false), side(query.to, query.from, true)};
    }
};

} // namespace manx::testing_policy
