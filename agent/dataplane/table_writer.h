// SPDX-License-Identifier: Apache-2.0
// The policy tables as something to be written and read, whether they are pinned BPF maps or
// memory. Lists are written in order and stop at the first failure; Exhausted means that a table
// is full.
#pragma once

#include "base/ip.h"
#include "base/result.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manx::dataplane {

using PolicyEntry = std::pair<manx_policy_key, manx_policy_value>;
using ClassEntry = std::pair<Cidr, manx_class>; // host prefixes: the exact tables

// The tables of addresses.
enum class AddressTable : uint8_t { Class4, Class6, Net4, Net6, Endpoint4, Endpoint6 };
inline constexpr size_t kAddressTables = 6;
std::string_view to_string(AddressTable table); // "manx_class4"
AddressTable table_of(const Cidr& prefix);
AddressTable endpoint_table_of(const IpAddress& address);

class TableWriter {
public:
    TableWriter() = default;
    TableWriter(const TableWriter&) = delete;
    TableWriter& operator=(const TableWriter&) = delete;
    virtual ~TableWriter() = default;

    virtual Result<void> write_ports(uint32_t offset, std::span<const manx_port> entries) = 0;
    virtual Result<void> put_policies(std::span<const PolicyEntry> entries) = 0;
    virtual Result<void> put_classes(std::span<const ClassEntry> entries) = 0;
    virtual Result<void> put_endpoint(const IpAddress& address, const manx_endpoint& value) = 0;
    virtual Result<void> put_slot(uint16_t slot, const manx_slot_entry& value) = 0;
    // What is not there is removed already.
    virtual Result<void> remove_policy(const manx_policy_key& key) = 0;
    virtual Result<void> remove_class(const Cidr& prefix) = 0;
    virtual Result<void> remove_endpoint(const IpAddress& address) = 0;

    virtual Result<std::vector<manx_port>> read_ports(uint32_t offset, uint32_t count) = 0;
    virtual Result<void> each_policy(const std::function<void(const PolicyEntry&)>& fn) = 0;
    virtual Result<void> each_class(const std::function<void(const ClassEntry&)>& fn) = 0;
    virtual Result<void>
    each_endpoint(const std::function<void(const IpAddress&, const manx_endpoint&)>& fn) = 0;
    virtual Result<void>
    each_slot(const std::function<void(uint16_t, const manx_slot_entry&)>& fn) = 0;

    // What programs found before the call they hold no more when it returns. May take some 10 ms.
    virtual Result<void> wait_for_programs() = 0;

    [[nodiscard]] virtual uint32_t ports_capacity() const = 0;
    [[nodiscard]] virtual uint32_t policies_capacity() const = 0;
    [[nodiscard]] virtual uint32_t capacity(AddressTable table) const = 0;
};

// Tables in memory, and the look-ups that the BPF programs make in them: for tests, and for
// explaining what is not applied yet.
class MemoryTables final : public TableWriter {
public:
    struct Limits {
        uint32_t ports = 262144;
        uint32_t policies = 1048576;
        uint32_t addresses = 262144; // of each table
    };

    MemoryTables() = default;

    explicit MemoryTables(Limits limits) : limits_(limits) {}

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

    Result<void> wait_for_programs() override {
        return on_wait ? on_wait() : fail(ErrorKind::Unavailable, "there are no programs");
    }

    [[nodiscard]] uint32_t ports_capacity() const override { return limits_.ports; }

    [[nodiscard]] uint32_t policies_capacity() const override { return limits_.policies; }

    [[nodiscard]] uint32_t capacity(AddressTable) const override { return limits_.addresses; }

    // Class and flags of an address, as the programs find them: endpoint, exact, longest prefix.
    [[nodiscard]] manx_class classify(const IpAddress& address) const;
    [[nodiscard]] const manx_endpoint* endpoint(const IpAddress& address) const;

    struct Verdict {
        bool allow = false;
        uint32_t rule = 0;
        bool log = false;
        bool broken = false; // a set without tables
    };

    // source_port, destination_port: as in a port table.
    [[nodiscard]] Verdict judge(uint32_t set, uint32_t class_id, uint8_t protocol,
                                uint16_t source_port, uint16_t destination_port) const;

    // Called before each write with its name, for tests of what every moment looks like and of
    // writes that fail.
    std::function<Result<void>(std::string_view what)> on_write;
    // Null: wait_for_programs() fails, and only time helps.
    std::function<Result<void>()> on_wait;

private:
    Result<void> about_to(std::string_view what) const;

    Result<void> check_addresses(AddressTable table) const;

    Limits limits_;
    std::vector<manx_port> ports_;
    std::map<std::pair<uint32_t, uint32_t>, manx_policy_value> policies_;
    std::map<Cidr, manx_class> classes_;
    std::map<IpAddress, manx_endpoint> endpoints_;
    std::map<uint16_t, manx_slot_entry> slots_;
};

} // namespace manx::dataplane
