// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/handles.h"

#include <algorithm>
#include <utility>

namespace manx::ipam {

Result<void> Handles::increment(const std::string& id, const Cidr& block, unsigned count,
                                Memo& memo) {
    return retry_.run("IPAMHandle " + id, [&]() -> Result<void> {
        auto known = memo.find(id);
        if (known == memo.end()) {
            // A pod's handle is new in nearly all cases: create first, read only if that fails.
            api::IpamHandle fresh;
            fresh.handle_id = id;
            fresh.block[block.text()] = static_cast<int>(count);
            auto created = repository_.create(fresh);
            if (created) {
                memo.emplace(id, std::move(*created));
                return {};
            }
            if (created.error().kind != ErrorKind::AlreadyExists) {
                return Unexpected(created.error());
            }
            auto read = repository_.handle(id).map_error(gone_is_conflict);
            if (!read) {
                return Unexpected(read.error());
            }
            known = memo.emplace(id, std::move(*read)).first;
        }
        known->second.value.block[block.text()] += static_cast<int>(count);
        auto written = repository_.write(known->second).map_error(gone_is_conflict);
        if (!written) {
            memo.erase(known);
        }
        return written;
    });
}

Result<void> Handles::put(Stored<api::IpamHandle>& handle) {
    auto done = handle.value.block.empty() ? repository_.remove(handle) : repository_.write(handle);
    return done.map_error(gone_is_conflict);
}

Result<void> Handles::decrement(const std::string& id, const Cidr& block, unsigned count) {
    return retry_.run("IPAMHandle " + id, [&]() -> Result<void> {
        auto handle = repository_.handle(id);
        if (!handle) {
            return handle.error().kind == ErrorKind::NotFound
                       ? Result<void>()
                       : Result<void>(Unexpected(handle.error()));
        }
        auto entry = handle->value.block.find(block.text());
        if (entry == handle->value.block.end()) {
            return {};
        }
        entry->second -= static_cast<int>(count);
        if (entry->second <= 0) {
            handle->value.block.erase(entry);
        }
        return put(*handle);
    });
}

Result<void> Handles::subtract(const Stored<api::IpamHandle>& seen) {
    Stored<api::IpamHandle> handle = seen;
    return retry_.run("IPAMHandle " + seen.value.handle_id, [&]() -> Result<void> {
        for (const auto& [block, count] : seen.value.block) {
            auto entry = handle.value.block.find(block);
            if (entry != handle.value.block.end() && (entry->second -= count) <= 0) {
                handle.value.block.erase(entry);
            }
        }
        auto done = put(handle);
        if (!done && done.error().kind == ErrorKind::Conflict) {
            auto read = repository_.handle(seen.value.handle_id);
            if (!read && read.error().kind == ErrorKind::NotFound) {
                return {};
            }
            if (!read) {
                return Unexpected(read.error());
            }
            handle = std::move(*read);
        }
        return done;
    });
}

} // namespace manx::ipam
