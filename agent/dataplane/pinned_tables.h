// SPDX-License-Identifier: Apache-2.0
// The policy tables as pinned BPF maps.
#pragma once

#include "agent/dataplane/table_writer.h"
#include "maps/map.h"
#include "maps/program_barrier.h"

#include <memory>
#include <string>

namespace manx::dataplane {

class PinnedTables final : public TableWriter {
public:
    // The maps must be pinned already (loader::Loader::open does it).
    static Result<std::unique_ptr<PinnedTables>> open(const std::string& bpffs);

    Result<void> write_ports(uint32_t offset, std::span<const manx_port> entries) override;
    Result<void> put_policies(std::span<const PolicyEntry> entries) override;
    Result<void> put_classes(std::span<const ClassEntry> entries) override;
    Result<void> put_endpoint(const IpAddress& address, const manx_endpoint& value) override;
    Result<void> put_slot(uint16_t slot, const manx_slot_entry& value) override;
    Result<void> remove_policy(const manx_policy_key& key) override;
    Result<void> remove_class(const Cidr& prefix) override;
    Result<void> remove_endpoint(const IpAddress& address) override;
    Result<std::vector<manx_port>> read_ports(uint32_t offset, uint32_t count) override;
    Result<void> each_policy(const std::function<void(const PolicyEntry&)>& fn) override;
    Result<void> each_class(const std::function<void(const ClassEntry&)>& fn) override;
    Result<void>
    each_endpoint(const std::function<void(const IpAddress&, const manx_endpoint&)>& fn) override;
    Result<void>
    each_slot(const std::function<void(uint16_t, const manx_slot_entry&)>& fn) override;

    // Class and flags of an address, as the programs find them.
    [[nodiscard]] Result<manx_class> classify(const IpAddress& address) const;

    Result<void> wait_for_programs() override { return barrier_.wait(); }

    [[nodiscard]] uint32_t ports_capacity() const override { return ports_.max_entries(); }

    [[nodiscard]] uint32_t policies_capacity() const override { return policies_.max_entries(); }

    [[nodiscard]] uint32_t capacity(AddressTable table) const override;

private:
    PinnedTables() = default;

    maps::Map<manx_addr4, manx_endpoint> endpoints4_;
    maps::Map<manx_addr6, manx_endpoint> endpoints6_;
    maps::Map<uint32_t, manx_slot_entry> slots_;
    maps::Map<manx_addr4, manx_class> classes4_;
    maps::Map<manx_addr6, manx_class> classes6_;
    maps::Map<manx_prefix4, manx_class> nets4_;
    maps::Map<manx_prefix6, manx_class> nets6_;
    maps::Map<manx_policy_key, manx_policy_value> policies_;
    maps::Map<uint32_t, manx_port> ports_;
    maps::ProgramBarrier barrier_;
};

} // namespace manx::dataplane
