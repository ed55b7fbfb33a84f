// SPDX-License-Identifier: Apache-2.0
// Whether the tables of addresses have room for an update.
#include "agent/dataplane/policy_tables.h"

#include <fmt/format.h>

#include <set>

namespace manx::dataplane {

Result<void> PolicyTables::check_addresses(const calc::TableUpdate& update) {
    std::array<size_t, kAddressTables> more{};
    const auto each_put = [&update](const auto& prefix, const auto& address) {
        for (const auto& step : update.steps) {
            if (const auto* one = std::get_if<calc::ClassStep>(&step); one && !one->remove) {
                prefix(one->prefix);
            } else if (const auto* local = std::get_if<calc::EndpointStep>(&step);
                       local && !local->remove) {
                address(local->address);
            }
        }
    };
    each_put(
        [&](const Cidr& prefix) { ++more[static_cast<size_t>(table_of(prefix))]; },
        [&](const IpAddress& address) { ++more[static_cast<size_t>(endpoint_table_of(address))]; });
    const auto fits = [&](size_t table) {
        return addresses_[table] + more[table] <=
               writer_.capacity(static_cast<AddressTable>(table));
    };
    bool all = true;
    for (size_t table = 0; table < kAddressTables; ++table) {
        all = all && fits(table);
    }
    if (all) {
        return {};
    }
    // Some may be there already: now it matters.
    std::set<Cidr> prefixes;
    std::set<IpAddress> endpoints;
    TRY(writer_.each_class([&](const ClassEntry& entry) { prefixes.insert(entry.first); }));
    TRY(writer_.each_endpoint(
        [&](const IpAddress& address, const manx_endpoint&) { endpoints.insert(address); }));
    addresses_ = {};
    for (const auto& prefix : prefixes) {
        ++addresses_[static_cast<size_t>(table_of(prefix))];
    }
    for (const auto& address : endpoints) {
        ++addresses_[static_cast<size_t>(endpoint_table_of(address))];
    }
    more = {};
    each_put(
        [&](const Cidr& prefix) {
            more[static_cast<size_t>(table_of(prefix))] += prefixes.insert(prefix).second ? 1 : 0;
        },
        [&](const IpAddress& address) {
            more[static_cast<size_t>(endpoint_table_of(address))] +=
                endpoints.insert(address).second ? 1 : 0;
        });
    for (size_t table = 0; table < kAddressTables; ++table) {
        if (!fits(table)) {
            const auto id = static_cast<AddressTable>(table);
            return fail(ErrorKind::Exhausted,
                        fmt::format("{} is full: {} entries are needed, it has room for {}",
                                    to_string(id), addresses_[table] + more[table],
                                    writer_.capacity(id)));
        }
    }
    return {};
}

} // namespace manx::dataplane
